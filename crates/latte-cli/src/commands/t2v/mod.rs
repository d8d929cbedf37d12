//! `latte t2v`: generates videos from texts.

mod jobs;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use latte::{CancelToken, GeneratedClip, GenerationProgress, Precision, Progress, Sampler, Sidecar, Stage, TextOf};
use latte_video::results::{Part, ResultFolder};
use serde_json::Value;

use crate::commands::sample::{parse_option, parse_size};
use crate::device::DeviceArgs;
use crate::memory::peak_memory_mib;
use crate::output::{self, check_output_folder};
use crate::progress::StageProgress;
use crate::terminal::{note, say};
use jobs::{Job, again, new};

/// Generates videos from texts with a text-to-video model in the diffusers layout (Latte-1).
///
/// The parts of the model are loaded one after the other and dropped after use: text encoder, transformer, decoder. Beside every
/// video is a .json file with all its settings, from which the same video can be generated again.
///
///   latte t2v --model Latte-1 --prompt "a dog in an astronaut suit" --seed 7
///   latte t2v --model Latte-1 --prompt-file prompts.txt --num 2 --sampler dpm++ --steps 20
///   latte t2v --model Latte-1 --prompt "a lighthouse" --frames 1 --size 512x768
///   latte t2v --from samples/a_dog_in_an_astronaut_suit_seed7.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    /// The model's folder: model_index.json, scheduler, tokenizer, text_encoder, transformer, vae, vae_temporal_decoder.
    #[arg(long, value_name = "FOLDER", required_unless_present = "from")]
    model: Option<PathBuf>,
    /// What the video shows. May be given several times.
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,
    /// A file with a prompt on each line.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// What the video should not show.
    #[arg(long, default_value = "", value_name = "TEXT")]
    negative: String,
    /// Sampling steps; more are slower and better.
    #[arg(long, default_value_t = 50, value_name = "N")]
    steps: usize,
    /// Guidance scale: higher values follow the prompt more closely. 1 turns guidance off and takes half the time.
    #[arg(long, default_value_t = 7.5, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: f64,
    /// Frames; 1 gives a PNG image. Default: as in training.
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Height and width in pixels. Default: as in training.
    #[arg(long, value_parser = parse_size, value_name = "HxW")]
    size: Option<[usize; 2]>,
    #[arg(
        long,
        value_name = "NAME",
        help = format!("The sampler: {}. Default: the one in the model's scheduler_config.json", Sampler::names())
    )]
    sampler: Option<Sampler>,
    /// Noise added in each step of ddim, 0 (none) to 1.
    #[arg(long, value_name = "ETA", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// Sets a key of scheduler_config.json to another value, for example use_karras_sigmas=true. May be given several times.
    /// Refused if it has no effect on the sampler.
    #[arg(long = "sampler-option", value_name = "KEY=VALUE", value_parser = parse_option)]
    sampler_options: Vec<(String, Value)>,
    /// The seed of the first video of each prompt.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Videos per prompt; their seeds count up from --seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    num: usize,
    /// Decode with the temporal decoder: auto uses it if the model has one and the video has more than one frame.
    #[arg(long, value_enum, default_value_t = Switch::Auto)]
    temporal_decoder: Switch,
    /// Decode frames in tiles of N × N pixels, an even number of at least 16: less memory for large frames, several times the work,
    /// the same video up to rounding. Not with the temporal decoder.
    #[arg(long, value_name = "N")]
    tile: Option<usize>,
    /// Skip the temporal blocks: for weights that were trained on images only (Latte-0).
    #[arg(long)]
    no_temporal_attention: bool,
    /// Do not clean prompts. By default they are cleaned as the captions of the training were.
    #[arg(long)]
    no_clean_caption: bool,
    /// Process text as diffusers does for a single prompt: the negative prompt is truncated to the prompt's length, nothing is
    /// masked.
    #[arg(long)]
    compat_masking: bool,
    /// The precision of matmuls. bf16 is faster on processors that have it (AVX-512-BF16).
    #[arg(long, value_parser = crate::precision::parser(), default_value = "f32")]
    precision: Precision,
    /// Frames per second of the video.
    #[arg(long, default_value_t = 8.0)]
    fps: f64,
    /// The output folder.
    #[arg(long, default_value = "samples", value_name = "FOLDER")]
    out: PathBuf,
    /// Replace videos with the same names and other settings. Without it they are kept, and the new ones are named NAME-2.
    #[arg(long)]
    overwrite: bool,
    /// Generate the video of this .json file again; only --model, --out, --overwrite and --no-cache may be given beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "prompts", "prompt_file", "negative", "steps", "guidance", "frames", "size", "sampler", "eta", "sampler_options", "seed", "num",
        "temporal_decoder", "tile", "no_temporal_attention", "no_clean_caption", "compat_masking", "precision", "fps",
    ])]
    from: Option<PathBuf>,
    /// Do not use the cache folder ($LATTE_CACHE, else ~/.cache/latte), which has encoded prompts and, until the videos are
    /// written, latents.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Auto, on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    Auto,
    On,
    Off,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (model, jobs) = match &args.from {
        Some(path) => again(args, path)?,
        None => new(args)?,
    };
    check_output_folder("--out", &args.out)?;
    let start = Instant::now();
    let mut results = ResultFolder::new(&args.out, args.overwrite);
    let clips: Vec<Sidecar> = jobs.iter().map(|job| job.sidecar.clone()).collect();
    let progress = RefCell::new(Stages { jobs: &jobs, shown: None, reported: BTreeSet::new() });
    let made = model.generate_all(&clips, &mut Shared(&progress), &CancelToken::new(), &mut |index, made| {
        for path in write(&mut results, &clips[index], &made)? {
            progress.borrow().say(&path.display().to_string());
        }
        Ok(())
    });
    progress.into_inner().finish(made)?;
    output::tell(&results, "; --overwrite replaces it");
    let memory = peak_memory_mib().map_or_else(String::new, |mib| format!(", at most {mib} MiB of memory"));
    note(&format!("{} in {}{memory}", counted(jobs.len()), crate::progress::duration(start.elapsed())));
    Ok(())
}

/// Shows one stage after the other, and reports warnings about texts with their sources.
struct Stages<'j> {
    jobs: &'j [Job],
    shown: Option<(Stage, StageProgress)>,
    /// Lines about texts, each printed once: several videos may have the same prompt.
    reported: BTreeSet<String>,
}

impl Stages<'_> {
    /// Prints a result above the progress line.
    fn say(&self, line: &str) {
        match &self.shown {
            Some((_, shown)) => shown.say(line),
            None => say(line),
        }
    }

    fn note(&self, line: &str) {
        match &self.shown {
            Some((_, shown)) => shown.note(line),
            None => note(line),
        }
    }

    /// Removes the progress line and returns the result of the work.
    fn finish<T, E>(self, made: Result<T, E>) -> Result<T, E> {
        match self.shown {
            Some((_, shown)) => shown.finish_with(made),
            None => made,
        }
    }
}

/// Progress reports and the writing of videos share one line.
struct Shared<'s, 'j>(&'s RefCell<Stages<'j>>);

impl Progress for Shared<'_, '_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let mut stages = self.0.borrow_mut();
        if stages.shown.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            if let Some((_, before)) = stages.shown.take() {
                before.finish();
            }
            stages.shown = Some((stage, StageProgress::new(stage.name())));
        }
        if let Some((_, shown)) = &mut stages.shown {
            shown.set(done, total);
        }
    }

    fn note(&mut self, message: &str) {
        self.0.borrow().note(message);
    }

    fn warning(&mut self, message: &str) {
        self.0.borrow().note(&format!("warning: {message}"));
    }
}

impl GenerationProgress for Shared<'_, '_> {
    fn text_left_out(&mut self, clip: usize, text: TextOf, what: &str) {
        let mut stages = self.0.borrow_mut();
        let Some(job) = stages.jobs.get(clip) else { return };
        let origin = match text {
            TextOf::Prompt => &job.origins[0],
            TextOf::NegativePrompt => &job.origins[1],
        };
        let line = format!("warning: {origin}: {what}");
        if stages.reported.insert(line.clone()) {
            stages.note(&line);
        }
    }
}

/// Writes the video and its sidecar; returns their paths.
fn write(results: &mut ResultFolder, sidecar: &Sidecar, made: &GeneratedClip) -> latte::Result<Vec<PathBuf>> {
    let [frames, height, width, _] = made.clip.shape();
    let picture = if frames == 1 { Part::png(made.clip.pixels(), width, height) } else { Part::mp4(&made.clip) };
    let text = sidecar.to_json()?;
    Ok(results.write(&made.name, &[picture, Part::text("json", &text, Sidecar::are_same)])?)
}

fn counted(videos: usize) -> String {
    if videos == 1 { "one video".into() } else { format!("{videos} videos") }
}
