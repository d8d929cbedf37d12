//! `latte bench`: the time and memory of a network's work.

mod autoencoder;
mod class_model;
mod text_to_video;

use std::time::Instant;

use anyhow::Context;
use candle_core::Device;
use clap::ValueEnum;
use latte_model::model::LatteConfig;
use latte_ops::{InstructionSet, Precision};
use serde::Serialize;

use crate::commands::sample::parse_size;
use crate::device::{self, DeviceArgs};
use crate::failure::bad_input;
use crate::memory::peak_memory_mib;
use crate::terminal::say;

/// Measures the time of one network on one video, and prints one JSON line.
///
/// The models S/2 and so on process 16 frames of 256 × 256 pixels, latents [1, 16, 4, 32, 32]: one forward pass, or one training
/// step (forward, backward and AdamW). Two runs warm up first. Times on a shared machine vary: to compare with another program,
/// run the two in turn and quote the ratio. Weights are random.
///
/// The model T2V is the text-to-video transformer of the published size (1.06 billion parameters): one forward pass of one clip of
/// 16 frames of 512 × 512 pixels, latents [1, 16, 4, 64, 64], with a text of 120 tokens. It takes minutes and 10 GiB on a CPU;
/// fewer --frames take less.
///
/// The model VAE is the autoencoder of Stable Diffusion, frame by frame (default: one frame); VAE-T is that of Stable Video
/// Diffusion, whose decoder processes all frames together (default: 16). The default size of both is 256 × 256 pixels.
///
///   latte bench --model S/2 --mode forward --dtype f32 --threads 2
///   latte bench --model S/2 --mode train --dtype bf16 --threads 2 --runs 3
///   latte bench --model T2V --frames 2 --warm-up 0 --runs 1
///   latte bench --model VAE --mode encode --dtype bf16
///   latte bench --model VAE --mode decode --size 512x512 --frames 16 --warm-up 0 --runs 1
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The model: {S,B,L,XL}/{2,4,8}, T2V, VAE or VAE-T.
    #[arg(long, default_value = "S/2", value_name = "SIZE/PATCH|T2V|VAE|VAE-T")]
    model: String,
    /// The work: forward or train for S/2 and the like, forward for T2V, decode or encode for VAE, decode for VAE-T. Default: the
    /// first of these.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The precision of matmuls.
    #[arg(long, value_parser = crate::precision::parser(), default_value = "f32")]
    dtype: Precision,
    /// Threads. Default: one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Timed runs.
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Runs before the timed ones.
    #[arg(long, default_value_t = 2, value_name = "N")]
    warm_up: usize,
    /// Frames of the clip. Default: 16; for VAE 1.
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Height and width in pixels, for VAE and VAE-T. Default: 256x256.
    #[arg(long, value_parser = parse_size, value_name = "HxW")]
    size: Option<[usize; 2]>,
    /// The tile size of VAE in pixels: less memory, more time.
    #[arg(long, value_name = "N")]
    tile: Option<usize>,
    /// Store only the inputs of blocks, and run each block again in the backward pass: less memory, more time.
    #[arg(long)]
    recompute: bool,
    /// Clips per pass, for S/2 and the like. Default: 1.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Forward,
    Train,
    Encode,
    Decode,
}

impl Mode {
    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }
}

/// The JSON line.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a str,
    mode: Mode,
    dtype: Precision,
    recompute: bool,
    device: &'a str,
    batch: usize,
    frames: usize,
    /// Height and width in pixels.
    size: [usize; 2],
    threads: usize,
    median_s: f64,
    min_s: f64,
    /// The peak memory of the process in MiB; absent if the system does not report it.
    peak_memory_mib: Option<u64>,
    /// The median of the page faults of a timed run; absent if the system does not report them.
    page_faults: Option<u64>,
    instructions: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.runs == 0 || args.threads == Some(0) {
        return Err(bad_input("--runs and --threads: expected at least 1"));
    }
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    }
    let device = args.device.open()?;
    let Case { mode, frames, size, mut work } = case(args, &device)?;
    // A GPU runs asynchronously.
    let mut once = || work.once().and_then(|()| Ok(device.synchronize()?));
    for _ in 0..args.warm_up {
        once()?;
    }
    let (mut seconds, mut faults) = (Vec::with_capacity(args.runs), Vec::with_capacity(args.runs));
    for _ in 0..args.runs {
        let (start, before) = (Instant::now(), page_faults());
        once()?;
        seconds.push(start.elapsed().as_secs_f64());
        faults.extend(page_faults().zip(before).map(|(after, before)| after - before));
    }
    seconds.sort_by(f64::total_cmp);
    faults.sort_unstable();
    let report = Report {
        model: args.model.strip_prefix("Latte-").unwrap_or(&args.model),
        mode,
        dtype: args.dtype,
        recompute: args.recompute,
        device: &device::name(&device),
        batch: args.batch.unwrap_or(1),
        frames,
        size,
        threads: rayon::current_num_threads(),
        median_s: median(&seconds),
        min_s: seconds[0],
        peak_memory_mib: peak_memory_mib(),
        page_faults: faults.get(faults.len() / 2).copied(),
        instructions: InstructionSet::current().to_string(),
    };
    say(&serde_json::to_string(&report)?);
    Ok(())
}

/// Pixels per latent value, in height and in width.
const DOWNSAMPLE: usize = 8;

/// The work that is timed.
trait Work {
    /// Does the work once.
    fn once(&mut self) -> anyhow::Result<()>;
}

/// The work and the size of its input.
struct Case {
    mode: Mode,
    frames: usize,
    size: [usize; 2],
    work: Box<dyn Work>,
}

fn case(args: &Args, device: &Device) -> anyhow::Result<Case> {
    if args.frames == Some(0) || args.batch == Some(0) {
        return Err(bad_input("--frames and --batch: expected at least 1"));
    }
    let precision = args.dtype;
    match args.model.to_ascii_uppercase().as_str() {
        "T2V" => {
            let mode = mode(args, &[Mode::Forward], Takes::default())?;
            text_to_video::case(device, mode, args.frames, precision)
        }
        "VAE" => {
            let mode = mode(args, &[Mode::Decode, Mode::Encode], Takes { size: true, tile: true, ..Takes::default() })?;
            autoencoder::frame_by_frame(device, mode, args.frames, args.size, args.tile, precision)
        }
        "VAE-T" => {
            let mode = mode(args, &[Mode::Decode], Takes { size: true, ..Takes::default() })?;
            autoencoder::temporal(device, mode, args.frames, args.size, precision)
        }
        _ => {
            let mut config = LatteConfig::preset(&args.model)?;
            config.num_frames = args.frames.unwrap_or(config.num_frames);
            let mode = mode(args, &[Mode::Forward, Mode::Train], Takes { batch: true, ..Takes::default() })?;
            class_model::case(device, mode, config, args.batch.unwrap_or(1), precision, args.recompute)
        }
    }
}

/// The options that a model uses.
#[derive(Debug, Clone, Copy, Default)]
struct Takes {
    size: bool,
    tile: bool,
    batch: bool,
}

/// The selected mode, if `known` has it; without a selection, the first of `known`. Refuses options that the model does not use.
fn mode(args: &Args, known: &[Mode], takes: Takes) -> anyhow::Result<Mode> {
    let mode = args.mode.unwrap_or(known[0]);
    if !known.contains(&mode) {
        let known: Vec<String> = known.iter().map(|mode| mode.name()).collect();
        let (mode, model) = (mode.name(), &args.model);
        return Err(bad_input(format!("--mode {mode}: the model {model} is timed with --mode {} only", known.join(" or "))));
    }
    let idle = [
        ("--size", args.size.is_some() && !takes.size, "VAE and VAE-T"),
        ("--tile", args.tile.is_some() && !takes.tile, "VAE"),
        ("--batch", args.batch.is_some() && !takes.batch, "S/2 and the like"),
        ("--recompute", args.recompute && mode != Mode::Train, "--mode train"),
    ];
    match idle.into_iter().find(|(_, given, _)| *given) {
        Some((option, _, whose)) => Err(bad_input(format!("{option}: is for {whose} only; leave it out"))),
        None => Ok(mode),
    }
}

/// The median of values in ascending order.
fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 { ascending[middle] } else { f64::midpoint(ascending[middle - 1], ascending[middle]) }
}

/// The page faults of this process, from Linux.
fn page_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The tenth field; the second, the program's name, is in parentheses and may contain spaces.
    stat.rsplit_once(')')?.1.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
