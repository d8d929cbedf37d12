//! `latte bench`: how long a forward pass or a training step takes.

mod class_model;
mod text_to_video;

use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use latte::model::LatteConfig;
use latte_ops::InstructionSet;
use serde::Serialize;

use crate::dtype::Dtype;
use crate::failure::bad_input;
use crate::memory::peak_memory_mib;
use crate::terminal::say;

/// Times one forward pass or one training step of one video of 16 frames of 256 × 256 pixels, and prints one JSON line.
///
/// The network gets latents [1, 16, 4, 32, 32]. A training step is forward, backward and AdamW. Two runs warm up first. Times
/// on a shared machine vary: compare with another program by running the two in turn, and quote the ratio.
///
/// The model T2V is the text-to-video transformer of the published size (1.06 billion parameters) with random weights: one
/// forward pass of one clip of 16 frames of 512 × 512 pixels, latents [1, 16, 4, 64, 64], under a text of 120 tokens. It takes
/// minutes and 10 GiB on a CPU; --frames makes it shorter.
///
///   latte bench --model S/2 --mode forward --dtype f32 --threads 2
///   latte bench --model S/2 --mode train --dtype bf16 --threads 2 --runs 3
///   latte bench --model T2V --frames 2 --warm-up 0 --runs 1
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The model: {S,B,L,XL}/{2,4,8}, or T2V.
    #[arg(long, default_value = "S/2", value_name = "SIZE/PATCH|T2V")]
    model: String,
    /// What is timed.
    #[arg(long, value_enum, default_value_t = Mode::Forward)]
    mode: Mode,
    /// In which precision matrix products are formed.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Threads. Default: one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Timed runs.
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Runs before the timed ones.
    #[arg(long, default_value_t = 2, value_name = "N")]
    warm_up: usize,
    /// Frames of the clip. Default: 16.
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Keep only the inputs of blocks, and run each block again in the backward pass: less memory, more time.
    #[arg(long)]
    recompute: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Forward,
    Train,
}

/// The JSON line.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a str,
    mode: Mode,
    dtype: Dtype,
    recompute: bool,
    device: &'a str,
    batch: usize,
    threads: usize,
    median_s: f64,
    min_s: f64,
    /// The largest memory that the process held, in MiB; absent where the system does not tell.
    peak_memory_mib: Option<u64>,
    /// Page faults of one timed run, the median; absent where the system does not tell.
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
    let mut work = work(args)?;
    let mut once = || work.once(args.mode);
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
        mode: args.mode,
        dtype: args.dtype,
        recompute: args.recompute,
        device: "cpu",
        batch: 1,
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

/// What is timed.
trait Work {
    /// Does it once.
    fn once(&mut self, mode: Mode) -> anyhow::Result<()>;
}

fn work(args: &Args) -> anyhow::Result<Box<dyn Work>> {
    if args.frames == Some(0) {
        return Err(bad_input("--frames: expected at least 1"));
    }
    let precision = args.dtype.into();
    if args.model.eq_ignore_ascii_case("t2v") {
        if args.mode == Mode::Train {
            return Err(bad_input("--mode train: the model T2V is timed in --mode forward only"));
        }
        return Ok(Box::new(text_to_video::TextToVideo::new(args.frames.unwrap_or(16), precision)?));
    }
    let mut config = LatteConfig::preset(&args.model)?;
    config.num_frames = args.frames.unwrap_or(config.num_frames);
    Ok(Box::new(class_model::ClassModel::new(config, precision, args.recompute)?))
}

/// The median of ascending values.
fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 { ascending[middle] } else { f64::midpoint(ascending[middle - 1], ascending[middle]) }
}

/// How many pages this process had to ask the kernel for, as Linux tells it.
fn page_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The tenth field; the second, the program's name, stands in parentheses and may hold spaces.
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
