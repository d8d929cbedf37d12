//! `latte data bench`: the speed of loading clips.

use std::time::Instant;

use candle_core::{Device, Tensor};
use latte_model::vae::AutoencoderKind;
use latte_train::{ClipFrames, LoadedClip, Loader, OpenedData, Position, TrainConfig, open_data};
use serde::Serialize;

use crate::commands::run_args::ConfigArgs;
use crate::failure::bad_input;
use crate::memory::peak_memory_mib;
use crate::terminal::{note, say};

/// Measures how fast a training run would get its clips, and prints one JSON line. Nothing is trained: clips are loaded as in
/// training (decoded, resized, mirrored; or read from a latent cache; or decoded and encoded) and collected into batches.
///
///   latte data bench --config train.toml --clips 200 --threads 2
///   latte data bench --config train.toml --set data.latents=latents --clips 5000
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Clips to measure.
    #[arg(long, default_value_t = 500, value_name = "N")]
    clips: usize,
    /// Clips to load before the measurement.
    #[arg(long, default_value_t = 0, value_name = "N")]
    warm_up: usize,
    /// Loading threads. Default: `data.loader_threads`.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// The printed line.
#[derive(Serialize)]
struct Report {
    /// `pixels`, `encoded` (pixels through the autoencoder) or `latents` (from a cache).
    source: &'static str,
    clips: usize,
    /// Frames and images per clip.
    frames: usize,
    threads: usize,
    batch_size: usize,
    seconds: f64,
    clips_per_s: f64,
    peak_memory_mib: Option<u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = TrainConfig::load(&args.config.file, &args.config.overrides)?;
    let threads = args.threads.unwrap_or(config.data.loader_threads);
    if args.clips == 0 || threads == 0 {
        return Err(bad_input("--clips and --threads: expected at least 1"));
    }
    let OpenedData { source, space, notes, classes, .. } = open_data(&config)?;
    for line in notes {
        note(&line);
    }
    let [_, height, width] = {
        let model = config.resolve_model(classes.len())?;
        [model.num_frames, model.input_size[0], model.input_size[1]]
    };
    let frame = [space.moment_channels(), height, width];
    let batch_size = config.train.batch_size;
    let started = Instant::now();
    let mut loader = Loader::new(source, config.train.seed, Position::default(), threads, config.data.prefetch)?;
    let mut take = |count: usize| -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            let clips = loader.next_clips(batch_size.min(left), &mut |message| note(&format!("warning: {message}")))?;
            left -= clips.len();
            batch(clips, frame)?;
        }
        Ok(())
    };
    take(args.warm_up)?;
    let started = if args.warm_up > 0 { Instant::now() } else { started };
    take(args.clips)?;
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        source: match (&config.data.latents, config.autoencoder.kind) {
            (Some(_), _) => "latents",
            (None, AutoencoderKind::Kl) => "encoded",
            (None, AutoencoderKind::Pixels) => "pixels",
        },
        clips: args.clips,
        frames: config.data.num_frames + config.data.joint_images,
        threads,
        batch_size,
        seconds,
        clips_per_s: args.clips as f64 / seconds,
        peak_memory_mib: peak_memory_mib(),
    };
    say(&serde_json::to_string(&report)?);
    Ok(())
}

/// One tensor of all clips, `[b, f + images, …frame]`.
fn batch(clips: Vec<LoadedClip>, frame: [usize; 3]) -> anyhow::Result<Tensor> {
    let [channels, height, width] = frame;
    let tensor = |clip: LoadedClip| {
        let (ClipFrames::Pixels(values) | ClipFrames::Moments(values)) = clip.frames;
        let frames = values.len() / (channels * height * width);
        Tensor::from_vec(values, (1, frames, channels, height, width), &Device::Cpu)
    };
    Ok(Tensor::cat(&clips.into_iter().map(tensor).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}
