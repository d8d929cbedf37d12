//! How long the autoencoder of Stable Diffusion takes for one frame: `cargo bench -p latte --bench vae [-- SIDE]`.
//!
//! With `--on-request` it waits for lines such as `decode f32`, runs that once and answers with the seconds, so that
//! `bench/vae_peer.py` can time it in turn with PyTorch. Weights are random: they do not change the time.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use latte::vae::{AutoencoderKl, KlConfig, Tiling};
use latte_ops::finite_difference::pseudo_random;
use latte_ops::{InstructionSet, Parameters, Precision, Recycling};

#[global_allocator]
static ALLOCATOR: Recycling = Recycling::new();

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let side = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(256);
    let bench = Bench::new(side)?;
    if arguments.iter().any(|a| a == "--on-request") {
        println!("ready {}", InstructionSet::current());
        for line in std::io::stdin().lines() {
            println!("{:.6}", bench.run(&line?)?);
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    println!("one frame of {side} × {side}, {} threads, {}\n", rayon_threads(), InstructionSet::current());
    for what in ["decode f32", "encode f32", "decode bf16", "encode bf16", "tiled f32"] {
        let mut seconds = (0..3).map(|_| bench.run(what)).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        println!("| {what} | {:.2} s | peak of the process so far {} |", seconds[1], peak());
    }
    Ok(())
}

struct Bench {
    /// In f32 and in bf16.
    vaes: [AutoencoderKl; 2],
    tiled: AutoencoderKl,
    pixels: Tensor,
    latent: Tensor,
}

impl Bench {
    fn new(side: usize) -> Result<Self> {
        let config = KlConfig::stable_diffusion();
        let weights = AutoencoderKl::tensors(&config)?
            .into_iter()
            .enumerate()
            .map(|(seed, (name, shape))| {
                let fan_in: usize = shape[1..].iter().product();
                Ok((name, (pseudo_random(&shape, seed as u64 + 1)? * (1.0 / fan_in as f64).sqrt())?))
            })
            .collect::<Result<Parameters>>()?;
        Ok(Self {
            tiled: AutoencoderKl::new(config.clone(), &weights, Precision::F32)?.with_tiling(Tiling::new(side / 2)?),
            vaes: [
                AutoencoderKl::new(config.clone(), &weights, Precision::F32)?,
                AutoencoderKl::new(config, &weights, Precision::Bf16)?,
            ],
            pixels: pseudo_random(&[1, 3, side, side], 1)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?,
            latent: pseudo_random(&[1, 4, side / 8, side / 8], 2)?,
        })
    }

    /// The seconds of one run of `decode f32`, `encode bf16` and so on.
    fn run(&self, what: &str) -> Result<f64> {
        let [f32, bf16] = &self.vaes;
        let start = Instant::now();
        match what.trim() {
            "decode f32" => f32.decode_unscaled(&self.latent)?,
            "decode bf16" => bf16.decode_unscaled(&self.latent)?,
            "encode f32" => f32.moments(&self.pixels)?,
            "encode bf16" => bf16.moments(&self.pixels)?,
            "tiled f32" => self.tiled.decode_unscaled(&self.latent)?,
            other => return Err(format!("expected `decode f32` or the like, got `{other}`").into()),
        };
        Ok(start.elapsed().as_secs_f64())
    }
}

fn rayon_threads() -> String {
    std::env::var("RAYON_NUM_THREADS")
        .unwrap_or_else(|_| std::thread::available_parallelism().map_or_else(|_| "?".into(), |n| n.to_string()))
}

/// The most memory that the process had, on Linux.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or_else(|| "unknown".into(), |v| v.trim().to_string())
}
