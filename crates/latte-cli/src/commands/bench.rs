//! `latte bench`: how long a forward pass or a training step takes.

use std::time::Instant;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use latte::model::{Input, Latte, LatteConfig};
use latte::noise::TorchRng;
use latte_ops::{AdamW, AdamWState, InstructionSet, PackedWeights, Parameters, Precision, Tape, adamw_ema};
use serde::Serialize;

use crate::dtype::Dtype;
use crate::failure::bad_input;
use crate::terminal::say;

/// Times one forward pass or one training step of one video of 16 frames of 256 × 256 pixels, and prints one JSON line.
///
/// The network gets latents [1, 16, 4, 32, 32]. A training step is forward, backward and AdamW. Two runs warm up first. Times
/// on a shared machine vary: compare with another program by running the two in turn, and quote the ratio.
///
///   latte bench --model S/2 --mode forward --dtype f32 --threads 2
///   latte bench --model S/2 --mode train --dtype bf16 --threads 2 --runs 3
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The size: {S,B,L,XL}/{2,4,8}.
    #[arg(long, default_value = "S/2", value_name = "SIZE/PATCH")]
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
    let mut work = Work::new(LatteConfig::preset(&args.model)?, args.dtype, args.recompute)?;
    let mut once = || match args.mode {
        Mode::Forward => work.forward(),
        Mode::Train => work.train(),
    };
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

/// The median of ascending values.
fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 { ascending[middle] } else { f64::midpoint(ascending[middle - 1], ascending[middle]) }
}

/// A model with an input, and what training needs besides.
#[derive(Debug)]
struct Work {
    model: Latte,
    precision: Precision,
    parameters: Parameters,
    /// As in sampling, weights are packed once for all forward passes.
    packed: PackedWeights,
    x: Tensor,
    target: Tensor,
    /// Moving average, first and second moments; made when the first training step needs them.
    optimizer: Option<[Parameters; 3]>,
    recompute: bool,
    step: u64,
}

impl Work {
    fn new(config: LatteConfig, dtype: Dtype, recompute: bool) -> anyhow::Result<Self> {
        let [h, w] = config.input_size;
        let shape = (1, config.num_frames, config.in_channels, h, w);
        let mut rng = TorchRng::new(0);
        let model = Latte::new(config)?;
        Ok(Self {
            parameters: model.init(&mut rng)?,
            packed: PackedWeights::new(),
            precision: dtype.into(),
            x: rng.randn(shape)?,      // [1, f, c, h, w]
            target: rng.randn(shape)?, // [1, f, c, h, w]
            recompute,
            optimizer: None,
            step: 0,
            model,
        })
    }

    fn forward(&mut self) -> anyhow::Result<()> {
        let tape = Tape::inference().with_precision(self.precision).with_packed_weights(&self.packed);
        self.model.forward(&tape, &self.parameters, &Input::new(&self.x, &[500.0]))?;
        Ok(())
    }

    /// The squared error of the predicted noise, its gradient, and one AdamW step.
    fn train(&mut self) -> anyhow::Result<()> {
        let gradients = {
            let tape = Tape::recording().with_precision(self.precision).with_recompute(self.recompute);
            let prediction = self.model.forward(&tape, &self.parameters, &Input::new(&self.x, &[500.0]))?; // [1, f, 2c, h, w]
            let channels = self.target.dim(2)?;
            let error = (prediction.tensor().narrow(2, 0, channels)? - &self.target)?;
            let scale = 2.0 / error.elem_count() as f64;
            let of_mean = (error * scale)?; // [1, f, c, h, w]
            let of_variance = Tensor::zeros(of_mean.shape(), DType::F32, &Device::Cpu)?;
            tape.backward(&prediction, Tensor::cat(&[&of_mean, &of_variance], 2)?)? // [1, f, 2c, h, w]
        };
        self.step += 1;
        if self.optimizer.is_none() {
            let (ema, zeros) = (self.parameters.deep_copy()?, self.parameters.zeros_like()?);
            self.optimizer = Some([ema, zeros.deep_copy()?, zeros]);
        }
        let Some([ema, first, second]) = &self.optimizer else { return Ok(()) };
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, ema_decay: 0.9999 };
        for (name, weight) in self.parameters.iter() {
            let Some(gradient) = gradients.parameter(name) else { continue };
            let state =
                AdamWState { weight, ema: ema.get(name)?, first_moment: first.get(name)?, second_moment: second.get(name)? };
            adamw_ema(&constants, 1e-4, self.step, gradient, 1.0, &state)?;
        }
        Ok(())
    }
}

/// The most memory that this process has held, as Linux tells it.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
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
