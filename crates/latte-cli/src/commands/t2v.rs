//! `latte t2v`: videos from texts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use candle_core::Tensor;
use clap::ValueEnum;
use latte::pipeline::{T2vSettings, TemporalDecoding, TextToVideo};
use latte::sampling::SolverKind;
use latte::text::PromptPair;
use latte::weights::hexadecimal;
use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, transform};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::commands::sample::parse_size;
use crate::device::DeviceArgs;
use crate::dtype::Dtype;
use crate::failure::bad_input;
use crate::memory::peak_memory_mib;
use crate::progress::StageProgress;
use crate::terminal::note;

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
    /// How far the video is pushed towards the prompt; 1 is not at all, and takes half the time.
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
    sampler: Option<SolverKind>,
    /// Noise added in each step of ddim, 0 (none) to 1.
    #[arg(long, default_value_t = 0.0, value_name = "ETA", allow_negative_numbers = true)]
    eta: f64,
    /// A key of scheduler_config.json that is to have another value, for example use_karras_sigmas=true. May be given
    /// several times.
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
    /// Make the video of this .json file again; only --model, --out and --no-cache may be given beside it.
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

/// What lies beside a video: from it, the same video can be made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    /// The version of the program that made it.
    latte: String,
    model: PathBuf,
    precision: Dtype,
    settings: T2vSettings,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (pipeline, jobs) = match &args.from {
        Some(path) => again(args, path)?,
        None => new(args)?,
    };
    let pipeline = pipeline.on(&args.device.open()?);
    for job in &jobs {
        pipeline.check(&job.settings)?;
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let start = Instant::now();
    let kept = kept_paths(args, &pipeline, &jobs)?;
    let latents = latents(args, &pipeline, &jobs, &kept)?;
    decode(args, &pipeline, &jobs, &latents)?;
    for path in kept.iter().flatten() {
        // The videos are there; what is left behind would only take space.
        let _ = std::fs::remove_file(path);
    }
    let memory = peak_memory_mib().map_or_else(String::new, |mib| format!(", at most {mib} MiB of memory"));
    note(&format!("{} in {}{memory}", counted(jobs.len()), crate::progress::duration(start.elapsed())));
    Ok(())
}

/// The videos that the options ask for.
fn new(args: &Args) -> anyhow::Result<(TextToVideo, Vec<Sidecar>)> {
    if args.num == 0 {
        return Err(bad_input("--num: expected at least 1"));
    }
    let mut prompts = args.prompts.clone();
    if let Some(path) = &args.prompt_file {
        let text = std::fs::read_to_string(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
        prompts.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from));
    }
    if prompts.is_empty() {
        return Err(bad_input("no prompt: give --prompt \"…\", or --prompt-file with a prompt on each line"));
    }
    let model = args.model.clone().unwrap_or_default();
    let pipeline = TextToVideo::open(&model)?;
    let scheduler = pipeline.scheduler_with(&args.sampler_options)?;
    let mut jobs = Vec::new();
    for prompt in prompts {
        for n in 0..args.num as u64 {
            let settings = T2vSettings {
                prompt: prompt.clone(),
                negative_prompt: args.negative.clone(),
                seed: args.seed.wrapping_add(n),
                num_steps: args.steps,
                guidance_scale: args.guidance,
                guidance_interval: None,
                guidance_rescale: 0.0,
                num_frames: args.frames.unwrap_or_else(|| pipeline.default_frames()),
                size: args.size.unwrap_or_else(|| pipeline.default_size()),
                scheduler: scheduler.clone(),
                sampler: args.sampler.map(|kind| kind.name().to_string()),
                eta: args.eta,
                temporal_attention: !args.no_temporal_attention,
                temporal_decoder: match args.temporal_decoder {
                    Switch::Auto => TemporalDecoding::Auto,
                    Switch::On => TemporalDecoding::On,
                    Switch::Off => TemporalDecoding::Off,
                },
                tile: args.tile,
                clean_caption: !args.no_clean_caption,
                compat_masking: args.compat_masking,
                fps: args.fps,
            };
            let latte = env!("CARGO_PKG_VERSION").to_string();
            jobs.push(Sidecar { latte, model: model.clone(), precision: args.precision, settings });
        }
    }
    Ok((pipeline, jobs))
}

/// The video of a sidecar.
fn again(args: &Args, path: &Path) -> anyhow::Result<(TextToVideo, Vec<Sidecar>)> {
    let text = std::fs::read_to_string(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    let mut job: Sidecar = serde_json::from_str(&text)
        .map_err(|e| bad_input(format!("{}: is no file of settings that latte t2v wrote: {e}", path.display())))?;
    if let Some(model) = &args.model {
        job.model.clone_from(model);
    }
    Ok((TextToVideo::open(&job.model)?, vec![job]))
}

/// The clean latents of all jobs, `[1, f, c, h, w]` each.
fn latents(args: &Args, pipeline: &TextToVideo, jobs: &[Sidecar], kept: &[Option<PathBuf>]) -> anyhow::Result<Vec<Tensor>> {
    let cache = if args.no_cache { None } else { crate::cache::folder() };
    let mut progress = StageProgress::new("reading the prompts");
    let texts = encode_texts(pipeline, jobs, cache.as_deref(), &mut |done, total| progress.set(done as u64, total as u64))?;
    progress.finish();
    let mut progress = StageProgress::new("denoising");
    let mut transformer = None;
    let mut all = Vec::new();
    for ((index, (job, text)), kept) in jobs.iter().zip(&texts).enumerate().zip(kept) {
        if let Some(latents) = kept.as_deref().and_then(|path| kept_latents(path, job)) {
            all.push(latents);
            continue;
        }
        let transformer = match &transformer {
            Some(loaded) => loaded,
            None => transformer.insert(pipeline.load_transformer()?),
        };
        let mut report = |done: usize, total: usize| progress.set((index * total + done) as u64, (jobs.len() * total) as u64);
        let latents = transformer.denoise(&job.settings, text, job.precision.into(), &mut report)?;
        if let Some(path) = kept {
            let tensors = std::iter::once(("latents".to_string(), latents.clone())).collect();
            std::fs::create_dir_all(path.parent().unwrap_or(path)).with_context(|| format!("cannot make {}", path.display()))?;
            latte::weights::save(path, &tensors, None)?;
        }
        all.push(latents);
    }
    progress.finish();
    Ok(all)
}

/// Where the latents of each job are kept until its video is written, so that an interrupted run need not make them again. They are
/// found by what they depend on.
fn kept_paths(args: &Args, pipeline: &TextToVideo, jobs: &[Sidecar]) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let Some(folder) = (if args.no_cache { None } else { crate::cache::folder() }) else { return Ok(vec![None; jobs.len()]) };
    let weights = pipeline.transformer_fingerprint()?;
    // A run that ran out of memory while decoding goes on from its latents with tiles, or without the temporal decoder.
    let path = |job: &Sidecar| -> anyhow::Result<Option<PathBuf>> {
        let job = Sidecar { settings: job.settings.of_latents(), ..job.clone() };
        let hash = Sha256::digest(format!("{weights}\n{}", serde_json::to_string(&job)?));
        Ok(Some(folder.join("latents").join(format!("{}.safetensors", hexadecimal(&hash)))))
    };
    jobs.iter().map(path).collect()
}

/// Latents that an interrupted run left; `None` if there are none, or damaged ones.
fn kept_latents(path: &Path, job: &Sidecar) -> Option<Tensor> {
    let latents = latte::weights::load(path).ok()?.0.get("latents").ok()?.clone();
    (latents.rank() == 5 && latents.dims()[1] == job.settings.num_frames).then_some(latents)
}

/// The prompts and negative prompts of all jobs; each different text is encoded once, and all of them together.
fn encode_texts(
    pipeline: &TextToVideo,
    jobs: &[Sidecar],
    cache: Option<&Path>,
    report: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Vec<PromptPair>> {
    // All jobs of a run are cleaned or none is: they come from one command line, or are one.
    let clean = jobs.first().is_some_and(|job| job.settings.clean_caption);
    let texts: Vec<&str> =
        jobs.iter().flat_map(|job| [job.settings.prompt.as_str(), job.settings.negative_prompt.as_str()]).collect();
    let encoded = pipeline.encode_texts(&texts, clean, cache, report)?;
    let pairs = encoded.chunks_exact(2).zip(jobs);
    Ok(pairs.map(|(pair, job)| PromptPair::new(&pair[0], &pair[1], job.settings.compat_masking)).collect::<latte::Result<_>>()?)
}

/// Decodes all latents and writes each video as soon as it is there.
fn decode(args: &Args, pipeline: &TextToVideo, jobs: &[Sidecar], latents: &[Tensor]) -> anyhow::Result<()> {
    // All jobs of a run have one decoder, as they have one cleaning.
    let Some(first) = jobs.first() else { return Ok(()) };
    let mut progress = StageProgress::new("decoding");
    let autoencoder = pipeline.load_decoder(&first.settings, first.precision.into())?;
    for (index, (job, latent)) in jobs.iter().zip(latents).enumerate() {
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
        for path in write(&args.out, job, &clip)? {
            progress.say(&format!("{}", path.display()));
        }
    }
    progress.finish();
    Ok(())
}

/// Writes the video and its sidecar; gives their paths.
fn write(out: &Path, job: &Sidecar, clip: &Clip) -> anyhow::Result<Vec<PathBuf>> {
    let name = file_name(&job.settings.prompt, job.settings.seed);
    let [frames, height, width, _] = clip.shape();
    let video = out.join(format!("{name}.{}", if frames == 1 { "png" } else { "mp4" }));
    if frames == 1 {
        encode::write_png(&video, clip.pixels(), width, height)?;
    } else {
        encode::write_mp4(&video, clip, &Mp4Options::default())?;
    }
    let sidecar = out.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(job)?;
    text.push('\n');
    latte::weights::write_atomically(&sidecar, text.as_bytes())?;
    Ok(vec![video, sidecar])
}

/// A prompt and a seed as a file name: the prompt's words, and where those do not tell it from other prompts, part of its hash.
fn file_name(prompt: &str, seed: u64) -> String {
    const LONGEST: usize = 60;
    let words: Vec<&str> = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let whole = words.join("_").to_lowercase();
    let mut name: String = whole.chars().take(LONGEST).collect();
    if name.replace('_', " ") != prompt {
        let hash = Sha256::digest(prompt.as_bytes());
        let hash = hexadecimal(&hash[..4]);
        name = if name.is_empty() { hash } else { format!("{name}_{hash}") };
    }
    format!("{name}_seed{seed}")
}

fn counted(videos: usize) -> String {
    if videos == 1 { "one video".into() } else { format!("{videos} videos") }
}

/// `key=value`, where the value is JSON or, failing that, text.
fn parse_option(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected key=value, got `{text}`"))?;
    Ok((key.trim().to_string(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_prompts_apart() {
        assert_eq!(file_name("a cat", 3), "a_cat_seed3");
        let [a, b, c] = ["a-cat", "a/cat", "A cat"].map(|prompt| file_name(prompt, 0));
        assert!(a != b && b != c && a.starts_with("a_cat_") && !b.contains('/'), "{a} {b} {c}");
        let long = "long ".repeat(100);
        assert_ne!(file_name(&long, 0), file_name(&format!("{long}er"), 0));
        assert!(file_name(&"long ".repeat(100), 0).chars().count() < 90);
        assert!(!file_name("???", 1).starts_with('_'));
    }

    #[test]
    fn options_are_json_or_text() {
        assert_eq!(parse_option("eta=0.5"), Ok(("eta".into(), Value::from(0.5))));
        assert_eq!(parse_option("algorithm_type=dpmsolver"), Ok(("algorithm_type".into(), Value::from("dpmsolver"))));
        assert!(parse_option("eta").is_err());
    }
}
