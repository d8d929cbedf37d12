//! `latte sample`: generates videos from a trained model.

use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::ProgressBar;
use latte::{
    CancelToken, ClassId, ClassRequest, GeneratedClip, GenerationProgress, Generator, MAX_ROWS, Precision, Progress, Sampler,
    SamplingParams, Stage, contact_sheet_of,
};
use latte_model::model::Condition;
use latte_video::results::{Part, ResultFolder};
use serde_json::Value;

use crate::device::DeviceArgs;
use crate::failure::bad_input;
use crate::generator;
use crate::output::{self, check_output_folder};
use crate::progress;
use crate::terminal::{note, say};

/// Generates videos from a trained model: one file each, and a contact sheet of all.
///
/// File names have class and seed. The same seed gives the same video, whichever others are generated, and its initial noise is
/// that of torch.manual_seed(seed); torch.randn(...).
///
///   latte sample --checkpoint runs/tiny
///   latte sample --checkpoint runs/tiny --class right_red_square 3 --num 4 --seed 100
///   latte sample --checkpoint runs/tiny/checkpoints/0001500/ema.safetensors --sampler ddpm --steps 250 --guidance 1
///   latte sample --checkpoint ffs.pt --vae sd-vae-ft-ema
///   latte sample --checkpoint runs/tiny --frames 16 --size 32x64 --format gif
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A weights file (also an official .pt), a checkpoint folder, or a run folder (its newest checkpoint).
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// The autoencoder of a model on latents: a folder (config.json and weights) or a weights file. Default: the path of the
    /// training; official weights need it.
    #[arg(long, value_name = "FOLDER")]
    vae: Option<PathBuf>,
    /// Classes, by name or number. Default: every class once.
    #[arg(long = "class", value_name = "CLASS", num_args = 1..)]
    classes: Vec<String>,
    /// Videos per class; their seeds count up from --seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    num: usize,
    /// The seed of the first video of each class.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The guidance scale: how far videos are pushed towards their class; 1: no guidance. Default: 4, or 1 for models without
    /// classes.
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: Option<f64>,
    #[arg(
        long,
        default_value = "ddim",
        value_name = "NAME",
        help = format!("The sampler: {}. ddim is good with few steps, ddpm with many (250)", Sampler::names())
    )]
    sampler: Sampler,
    /// Sets a key of diffusers' scheduler_config.json to another value than this sampler's default, for example
    /// use_karras_sigmas=true. May be given several times.
    #[arg(long = "sampler-option", value_name = "KEY=VALUE", value_parser = parse_option)]
    sampler_options: Vec<(String, Value)>,
    /// Sampling steps; more are slower and better.
    #[arg(long, default_value_t = 50, value_name = "N")]
    steps: usize,
    /// Noise added in each step of ddim, 0 (none) to 1 (as ddpm).
    #[arg(long, value_name = "ETA", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// Frames. Default: as in training.
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Height and width in pixels. Default: as in training.
    #[arg(long, value_parser = parse_size, value_name = "HxW")]
    size: Option<[usize; 2]>,
    /// The precision of matmuls. bf16 is faster on processors that have it (AVX-512-BF16).
    #[arg(long, value_parser = crate::precision::parser(), default_value = "f32")]
    precision: Precision,
    /// The output folder.
    #[arg(long, default_value = "samples", value_name = "FOLDER")]
    out: PathBuf,
    /// Replace videos with the same names and other settings. Without it they are kept, and the new ones are named NAME-2.
    #[arg(long)]
    overwrite: bool,
    /// The format: mp4 (H.264, plays in browsers), gif, or a folder of png frames.
    #[arg(long, value_enum, default_value_t = Format::Mp4)]
    format: Format,
    /// Write every pixel as a square of N × N, for small videos.
    #[arg(long, default_value_t = 1, value_name = "N")]
    enlarge: usize,
    /// Use the raw weights instead of their moving average.
    #[arg(long)]
    raw_weights: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The format of videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Mp4,
    Gif,
    Png,
}

/// A clip that was generated and written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The clip.
    pub(crate) made: GeneratedClip,
    /// The file, or the folder of frames.
    pub(crate) path: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.num == 0 || args.enlarge == 0 {
        return Err(bad_input("--num and --enlarge: expected at least 1"));
    }
    if let Some(eta) = args.eta.filter(|_| args.sampler != Sampler::Ddim) {
        let what = format!("got {eta}, but {} does not use it, ddim does; leave it out, or use --sampler ddim", args.sampler);
        return Err(bad_input(format!("--eta: {what}")));
    }
    let device = args.device.open()?;
    let generator = generator::open(&args.checkpoint, args.raw_weights, args.vae.as_deref(), args.precision, device.into())?;
    let params = SamplingParams {
        sampler: args.sampler,
        eta: args.eta.unwrap_or(0.0),
        steps: args.steps,
        guidance: args.guidance,
        frames: args.frames,
        size: args.size,
        precision: args.precision,
        sampler_options: args.sampler_options.clone(),
        ..SamplingParams::default()
    };
    let requests = requests(args, &generator, &params)?;
    check_output_folder("--out", &args.out)?;
    let mut results = ResultFolder::new(&args.out, args.overwrite);
    let written = sample_all(&generator, &requests, args.format, &mut results)?;
    for clip in &written {
        say(&format!("{}", clip.path.display()));
    }
    let sheet = contact_sheet_of(written.iter().map(|written| &written.made))?;
    for path in results.write("contact_sheet", &[Part::new("png", |path| sheet.write_png(path))])? {
        say(&format!("{}", path.display()));
    }
    if written.len() > MAX_ROWS {
        say(&format!("(the contact sheet shows the first {} of {} videos)", MAX_ROWS, written.len()));
    }
    output::tell(&results, "; --overwrite replaces it");
    Ok(())
}

/// The requests of the options, each class once.
fn requests(args: &Args, generator: &Generator, params: &SamplingParams) -> anyhow::Result<Vec<ClassRequest>> {
    let of_class = |class: Option<u32>| {
        (0..args.num as u64).map(move |n| ClassRequest {
            class: class.map(ClassId::Number),
            seed: args.seed.wrapping_add(n),
            params: params.clone(),
            enlarge: args.enlarge,
        })
    };
    Ok(classes(&args.classes, generator)?.into_iter().flat_map(of_class).collect())
}

/// The numbers of the classes `names` (each a name or a number), each once; all classes if `names` is empty. `None` stands for no
/// class, if the model has none.
///
/// # Errors
///
/// If the model has no such class.
pub(crate) fn classes(names: &[String], generator: &Generator) -> anyhow::Result<Vec<Option<u32>>> {
    if names.is_empty() {
        return Ok(match generator.metadata().model.condition {
            Condition::Class { num_classes, .. } => (0..num_classes as u32).map(Some).collect(),
            _ => vec![None],
        });
    }
    let mut classes = Vec::new();
    for name in names {
        let class = Some(generator.class_number(&name.as_str().into()).map_err(generator::of_option)?);
        // The same class with the same seeds would give the same videos.
        if classes.contains(&class) {
            note(&format!(
                "warning: --class {name}: is given twice; it is generated once (--num N gives N videos of each class)"
            ));
        } else {
            classes.push(class);
        }
    }
    Ok(classes)
}

/// Generates all clips of `requests` and writes each when it is complete.
///
/// # Errors
///
/// If a request does not fit the model, the computation fails, or a file cannot be written.
pub(crate) fn sample_all(
    generator: &Generator,
    requests: &[ClassRequest],
    format: Format,
    results: &mut ResultFolder,
) -> anyhow::Result<Vec<Written>> {
    let bar = progress::bar(1, "{wide_bar} {msg}  {eta} left");
    let begin = |index: usize| {
        if let Some(bar) = bar.as_ref().filter(|_| index < requests.len()) {
            bar.set_message(format!("video {} of {}", index + 1, requests.len()));
        }
    };
    begin(0);
    let mut written = Vec::new();
    let made = generator.generate_all(requests, &mut OnBar(bar.as_ref()), &CancelToken::new(), &mut |index, made| {
        let part = match format {
            Format::Mp4 => Part::mp4(&made.clip),
            Format::Gif => Part::gif(&made.clip),
            Format::Png => Part::png_frames(&made.clip),
        };
        let path = results.write(&made.name, &[part])?.pop().unwrap_or_default();
        written.push(Written { made, path });
        begin(index + 1);
        Ok(())
    });
    made.map_err(generator::of_option)?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(written)
}

/// Shows the progress of the sampler.
struct OnBar<'b>(Option<&'b ProgressBar>);

impl Progress for OnBar<'_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if let (Some(bar), Stage::Denoising) = (self.0, stage) {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl GenerationProgress for OnBar<'_> {}

/// `HxW`.
pub(crate) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let parsed = text.split_once(['x', '×']).and_then(|(h, w)| Some([h.trim().parse().ok()?, w.trim().parse().ok()?]));
    parsed.ok_or_else(|| format!("expected height x width, for example 32x64, got `{text}`"))
}

/// `key=value`, where the value is JSON, or else text.
pub(crate) fn parse_option(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected key=value, got `{text}`"))?;
    Ok((key.trim().to_string(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_height_and_width() {
        assert_eq!(parse_size("32x64"), Ok([32, 64]));
        assert!(parse_size("32").is_err() && parse_size("axb").is_err());
    }

    #[test]
    fn options_are_json_or_text() {
        assert_eq!(parse_option("eta=0.5"), Ok(("eta".into(), Value::from(0.5))));
        assert_eq!(parse_option("algorithm_type=dpmsolver"), Ok(("algorithm_type".into(), Value::from("dpmsolver"))));
        assert!(parse_option("eta").is_err());
    }
}
