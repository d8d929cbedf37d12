//! `latte t2v`: videos from texts.

mod jobs;
mod texts;

use std::path::PathBuf;
use std::time::Instant;

use candle_core::Tensor;
use clap::ValueEnum;
use latte_model::pipeline::{TextToVideo, kept};
use latte_model::sampling::Sampler;
use latte_model::text::PromptPair;
use latte_model::weights::hexadecimal;
use latte_video::results::{Part, ResultFolder, prompt_file_name};
use latte_video::{Clip, transform};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cache::OptionalCache;
use crate::commands::sample::{parse_option, parse_size};
use crate::device::DeviceArgs;
use crate::dtype::Dtype;
use crate::memory::peak_memory_mib;
use crate::output::{self, check_output_folder};
use crate::progress::StageProgress;
use crate::terminal::note;
use jobs::{Job, Sidecar, again, new, same_settings};

/// Makes videos from texts with a text-to-video model in the diffusers layout (Latte-1).
///
/// The parts of the model are loaded one after the other and dropped again: text encoder, transformer, decoder. Beside every
/// video lies a .json file with all its settings, from which the same video can be made again.
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
    /// What the video is to show. May be given several times.
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,
    /// A file with a prompt on each line.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// What the video is to stay away from.
    #[arg(long, default_value = "", value_name = "TEXT")]
    negative: String,
    /// Steps from noise to video; more is slower and better.
    #[arg(long, default_value_t = 50, value_name = "N")]
    steps: usize,
    /// Guidance scale: higher values follow the prompt more closely. 1 turns guidance off and takes half the time.
    #[arg(long, default_value_t = 7.5, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: f64,
    /// Frames; 1 makes a PNG image. Default: as in training.
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Height and width in pixels. Default: as in training.
    #[arg(long, value_parser = parse_size, value_name = "HxW")]
    size: Option<[usize; 2]>,
    /// The method: ddim, ddpm, euler, euler-a, dpm++, dpm++-sde, dpm-single, pndm, heun, deis, kdpm2-a or unipc. Default: the one
    /// in the model's scheduler_config.json.
    #[arg(long, value_name = "NAME")]
    sampler: Option<Sampler>,
    /// Noise added in each step of ddim, 0 (none) to 1.
    #[arg(long, value_name = "ETA", allow_negative_numbers = true)]
    eta: Option<f64>,
    /// A key of scheduler_config.json that is to have another value, for example use_karras_sigmas=true. May be given
    /// several times. Refused if it has no effect on the method.
    #[arg(long = "sampler-option", value_name = "KEY=VALUE", value_parser = parse_option)]
    sampler_options: Vec<(String, Value)>,
    /// The seed of the first video of each prompt.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Videos of each prompt; their seeds count up from --seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    num: usize,
    /// Decode with the temporal decoder: auto is on where there is one and more than one frame.
    #[arg(long, value_enum, default_value_t = Switch::Auto)]
    temporal_decoder: Switch,
    /// Decode frames in tiles of N × N pixels, an even number of at least 16: less memory for large frames, several times the
    /// work, the same video up to rounding. Not with the temporal decoder.
    #[arg(long, value_name = "N")]
    tile: Option<usize>,
    /// Leave the temporal blocks out: for weights that know images only (Latte-0).
    #[arg(long)]
    no_temporal_attention: bool,
    /// Take prompts as they are. Otherwise they are cleaned as the captions of training were.
    #[arg(long)]
    no_clean_caption: bool,
    /// Treat text as diffusers does for a single prompt: the negative prompt is cut to the prompt's length, nothing is masked.
    #[arg(long)]
    compat_masking: bool,
    /// In which precision matrix products are formed. bf16 is faster on processors that have it (AVX-512-BF16).
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    precision: Dtype,
    /// Frames per second of the video.
    #[arg(long, default_value_t = 8.0)]
    fps: f64,
    /// The folder to write into.
    #[arg(long, default_value = "samples", value_name = "FOLDER")]
    out: PathBuf,
    /// Replace videos of other settings that have the same names; otherwise they are kept, and the new ones are called NAME-2.
    #[arg(long)]
    overwrite: bool,
    /// Make the video of this .json file again; only --model, --out, --overwrite and --no-cache may be given beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "prompts", "prompt_file", "negative", "steps", "guidance", "frames", "size", "sampler", "eta", "sampler_options", "seed", "num",
        "temporal_decoder", "tile", "no_temporal_attention", "no_clean_caption", "compat_masking", "precision", "fps",
    ])]
    from: Option<PathBuf>,
    /// Keep neither encoded prompts nor, until the videos are written, latents in the cache folder ($LATTE_CACHE, else
    /// ~/.cache/latte).
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
    let (pipeline, jobs) = match &args.from {
        Some(path) => again(args, path)?,
        None => new(args)?,
    };
    let pipeline = pipeline.on(&args.device.open()?);
    for job in &jobs {
        pipeline.check(&job.sidecar.settings)?;
    }
    check_output_folder("--out", &args.out)?;
    if let Some(job) = jobs.first() {
        for line in pipeline.check_weights(&job.sidecar.settings)? {
            note(&line);
        }
    }
    let start = Instant::now();
    let cache = OptionalCache::new(args.no_cache);
    let texts = texts::encode(&pipeline, &jobs, &cache)?;
    let kept = kept_paths(&pipeline, &jobs, &cache)?;
    let latents = latents(&pipeline, &jobs, &texts, &kept, &cache)?;
    let mut results = ResultFolder::new(&args.out, args.overwrite);
    decode(&pipeline, &jobs, &latents, &mut results)?;
    for path in kept.iter().flatten() {
        // The videos are there; what is left behind would only take space.
        let _ = std::fs::remove_file(path);
    }
    output::tell(&results, "; --overwrite replaces it");
    let memory = peak_memory_mib().map_or_else(String::new, |mib| format!(", at most {mib} MiB of memory"));
    note(&format!("{} in {}{memory}", counted(jobs.len()), crate::progress::duration(start.elapsed())));
    Ok(())
}

/// What latents are called in files of the cache.
const LATENTS: &str = "latents";

/// The clean latents of all jobs, `[1, f, c, h, w]` each.
fn latents(
    pipeline: &TextToVideo,
    jobs: &[Job],
    texts: &[PromptPair],
    kept_paths: &[Option<PathBuf>],
    cache: &OptionalCache,
) -> anyhow::Result<Vec<Tensor>> {
    let mut progress = StageProgress::new("denoising");
    let mut transformer = None;
    let mut all = Vec::new();
    for ((index, (job, text)), path) in jobs.iter().zip(texts).enumerate().zip(kept_paths) {
        let settings = &job.sidecar.settings;
        // An interrupted run may have left them.
        if let Some(latents) = path.as_deref().and_then(|path| kept::find(path, LATENTS, &pipeline.latent_shape(settings))) {
            all.push(latents);
            continue;
        }
        let transformer = match &transformer {
            Some(loaded) => loaded,
            None => transformer.insert(pipeline.load_transformer()?),
        };
        let mut report = |done: usize, total: usize| progress.set((index * total + done) as u64, (jobs.len() * total) as u64);
        let latents = transformer.denoise(settings, text, job.sidecar.precision.into(), &mut report)?;
        let failed = path.as_deref().and_then(|path| kept::keep(path, LATENTS, &latents).err());
        if let Some(line) = failed.and_then(|error| cache.failed(&error)) {
            progress.note(&line);
        }
        all.push(latents);
    }
    progress.finish();
    Ok(all)
}

/// Where the latents of each job are kept until its video is written, so that an interrupted run need not make them again. They are
/// found by what they depend on.
fn kept_paths(pipeline: &TextToVideo, jobs: &[Job], cache: &OptionalCache) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let Some(folder) = cache.folder() else { return Ok(vec![None; jobs.len()]) };
    let weights = pipeline.transformer_fingerprint()?;
    // A run that ran out of memory while decoding goes on from its latents with tiles, or without the temporal decoder.
    let path = |Job { sidecar, .. }: &Job| -> anyhow::Result<Option<PathBuf>> {
        let of_latents = Sidecar { settings: sidecar.settings.of_latents(), ..sidecar.clone() };
        let hash = Sha256::digest(format!("{weights}\n{}", serde_json::to_string(&of_latents)?));
        Ok(Some(folder.join("latents").join(format!("{}.safetensors", hexadecimal(&hash)))))
    };
    jobs.iter().map(path).collect()
}

/// Decodes all latents and writes each video as soon as it is there.
fn decode(pipeline: &TextToVideo, jobs: &[Job], latents: &[Tensor], results: &mut ResultFolder) -> anyhow::Result<()> {
    // All jobs of a run have one decoder, as they have one cleaning.
    let Some(Job { sidecar: first, .. }) = jobs.first() else { return Ok(()) };
    let mut progress = StageProgress::new("decoding");
    let autoencoder = pipeline.load_decoder(&first.settings, first.precision.into())?;
    for (index, (Job { sidecar: job, .. }, latent)) in jobs.iter().zip(latents).enumerate() {
        let frames = job.settings.num_frames;
        // A decoder of single frames takes one at a time: less memory, and progress that moves.
        let together = if pipeline.decodes_temporally(&job.settings) { frames } else { 1 };
        let mut values = Vec::new();
        for first in (0..frames).step_by(together) {
            let pixels = autoencoder.decode(&latent.narrow(1, first, together)?)?; // [1, f, 3, h, w]
            values.extend(pixels.flatten_all()?.to_vec1::<f32>()?);
            progress.set((index * frames + first + together) as u64, (jobs.len() * frames) as u64);
        }
        let [height, width] = job.settings.size;
        let clip = transform::to_clip(&values, [frames, height, width], job.settings.fps)?;
        for path in write(results, job, &clip)? {
            progress.say(&format!("{}", path.display()));
        }
    }
    progress.finish();
    Ok(())
}

/// Writes the video and its sidecar; gives their paths.
fn write(results: &mut ResultFolder, job: &Sidecar, clip: &Clip) -> anyhow::Result<Vec<PathBuf>> {
    let name = format!("{}_seed{}", prompt_file_name(&job.settings.prompt), job.settings.seed);
    let [frames, height, width, _] = clip.shape();
    let picture = if frames == 1 { Part::png(clip.pixels(), width, height) } else { Part::mp4(clip) };
    let mut text = serde_json::to_string_pretty(job)?;
    text.push('\n');
    Ok(results.write(&name, &[picture, Part::text("json", &text, same_settings)])?)
}

fn counted(videos: usize) -> String {
    if videos == 1 { "one video".into() } else { format!("{videos} videos") }
}
