//! The noise levels of the process that the network was trained on.
//!
//! Published weights were trained and are sampled with tables in f32. The tables here hold the same f32 values, so that a search by
//! noise level, and its rounding, finds the same timestep; values derived from the tables are computed in f64.

use super::{Sampler, SolverConfig};
use crate::diffusion::BetaSchedule;
use crate::{Error, Result};

/// ᾱ of the last timestep of a schedule that ends in pure noise; 0 would make σ infinite.
const ALMOST_PURE_NOISE: f32 = 5.960_464_5e-8; // 2⁻²⁴

/// ᾱ and σ = √((1−ᾱ)/ᾱ) of each original timestep.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    pub(super) alphas_cumprod: Vec<f64>,
    pub(super) sigmas: Vec<f64>,
    log_sigmas: Vec<f64>,
}

impl Levels {
    pub(super) fn new(config: &SolverConfig) -> Result<Self> {
        let mut betas = betas(config)?;
        // The last β may be 1: the schedule ends in pure noise, as a rescaled schedule does.
        let last = betas.len() - 1;
        let ends_pure = config.rescale_betas_zero_snr || betas[last] == 1.0;
        let possible = |i: usize, beta: f32| beta > 0.0 && (beta < 1.0 || (i == last && beta == 1.0));
        if let Some((i, beta)) = betas.iter().enumerate().find(|(i, beta)| !possible(*i, **beta)) {
            return Err(Error::config(
                "betas",
                format!("beta of timestep {i} is {beta}, expected 0 < beta < 1: check beta_start, beta_end and trained_betas"),
            ));
        }
        if config.rescale_betas_zero_snr {
            betas = with_zero_terminal_snr(&betas);
        }
        let mut alphas_cumprod = cumulated(&betas);
        // The two methods that use ᾱ only, not σ, keep the schedule's end.
        let knows_sigma = !matches!(config.kind, Sampler::Ddim | Sampler::Ddpm);
        if ends_pure
            && knows_sigma
            && let Some(last) = alphas_cumprod.last_mut()
        {
            *last = ALMOST_PURE_NOISE;
        }
        let sigmas: Vec<f32> = alphas_cumprod.iter().map(|&a| ((1.0 - a) / a).sqrt()).collect();
        let usable = |s: &f32| *s > 0.0 && (s.is_finite() || !knows_sigma);
        if let Some(i) = sigmas.iter().position(|s| !usable(s)) {
            return Err(Error::config(
                "betas",
                format!(
                    "the noise level of timestep {i} is {}, expected a positive finite number: the betas are too small or too \
                     large for single precision",
                    sigmas[i]
                ),
            ));
        }
        Ok(Self {
            log_sigmas: sigmas.iter().map(|&s| f64::from(f64::from(s).ln() as f32)).collect(),
            alphas_cumprod: alphas_cumprod.into_iter().map(f64::from).collect(),
            sigmas: sigmas.into_iter().map(f64::from).collect(),
        })
    }

    /// σ at a timestep, which may be fractional; outside the schedule, the value at its end.
    pub(super) fn sigma_at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let low = (timestep.max(0.0) as usize).min(last);
        let high = (low + 1).min(last);
        (self.sigmas[high] - self.sigmas[low]) * (timestep - low as f64).clamp(0.0, 1.0) + self.sigmas[low]
    }

    /// The timestep, which may be fractional, with this σ, interpolated in log σ; outside the schedule, the timestep at its end.
    pub(super) fn timestep_of(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let below = self.log_sigmas.partition_point(|&s| s <= log_sigma);
        let low = below.saturating_sub(1).min(self.log_sigmas.len() - 2);
        let (a, b) = (self.log_sigmas[low], self.log_sigmas[low + 1]);
        let weight = ((a - log_sigma) / (a - b)).clamp(0.0, 1.0);
        (1.0 - weight) * low as f64 + weight * (low + 1) as f64
    }

    /// The smallest σ.
    pub(super) fn sigma_min(&self) -> f64 {
        self.sigmas[0]
    }

    /// The largest σ.
    pub(super) fn sigma_max(&self) -> f64 {
        self.sigmas[self.sigmas.len() - 1]
    }
}

fn betas(config: &SolverConfig) -> Result<Vec<f32>> {
    let n = config.num_train_timesteps;
    if let Some(betas) = &config.trained_betas {
        if betas.len() != n {
            return Err(Error::config("trained_betas", format!("expected {n} (num_train_timesteps), got {}", betas.len())));
        }
        return Ok(betas.iter().map(|&b| b as f32).collect());
    }
    let (start, end) = (config.beta_start, config.beta_end);
    Ok(match config.beta_schedule {
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, n),
        BetaSchedule::ScaledLinear => {
            linspace_f32(start.sqrt() as f32, end.sqrt() as f32, n).into_iter().map(|v| v * v).collect()
        }
        BetaSchedule::Sigmoid => linspace_f32(-6.0, 6.0, n)
            .into_iter()
            .map(|v| 1.0 / (1.0 + (-v).exp()) * (end - start) as f32 + start as f32)
            .collect(),
        other => other.betas_between(start, end, n).into_iter().map(|beta| beta as f32).collect(),
    })
}

/// `torch.linspace` in f32: from both ends to the middle, each value with one rounding.
fn linspace_f32(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = (end - start) / n.saturating_sub(1).max(1) as f32;
    (0..n).map(|i| if i < n / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((n - 1 - i) as f32, end) }).collect()
}

/// ᾱ: the product is computed in f64, and each value is rounded.
fn cumulated(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    let next = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(next).collect()
}

/// The betas shifted and scaled so that the last timestep is pure noise and the first stays as it is (Lin et al. 2024,
/// algorithm 1).
fn with_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulated(betas).into_iter().map(f32::sqrt).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let alphas_cumprod: Vec<f32> = roots.iter().map(|r| ((r - last) * scale).powi(2)).collect();
    let mut previous = 1.0;
    let beta = |&a: &f32| {
        let beta = 1.0 - a / previous;
        previous = a;
        beta
    };
    alphas_cumprod.iter().map(beta).collect()
}
