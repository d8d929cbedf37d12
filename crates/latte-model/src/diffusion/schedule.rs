//! The noise schedule: β and the quantities derived from it, in f64 on the CPU.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A named β schedule, as in configuration files and in `scheduler_config.json`.
///
/// Most run from a first β to a last one. For a [`DiffusionConfig`](super::DiffusionConfig) these are 10⁻⁴ and 0.02, both times
/// 1000 / T, so that a shorter process adds about as much noise (Ho et al. 2020; Nichol & Dhariwal 2021).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// β rises linearly. Latte's schedule.
    Linear,
    /// ᾱ falls as a squared cosine; β is capped at 0.999, and the given first and last β have no effect.
    SquaredcosCapV2,
    /// √β rises linearly. Called `quad` in configuration files, `scaled_linear` by diffusers.
    #[serde(rename = "quad", alias = "scaled_linear")]
    ScaledLinear,
    /// β rises linearly over the first 10 % of the steps, then is constant.
    Warmup10,
    /// β rises linearly over the first 50 % of the steps, then is constant.
    Warmup50,
    /// β is the last β everywhere.
    Const,
    /// β = 1/T, 1/(T−1), …, 1: the last step leaves no signal, so ε does not determine x0 there; train on x0 or velocity.
    Jsd,
    /// β rises as a sigmoid from −6 to 6.
    Sigmoid,
    /// The log signal-to-noise ratio is Laplace-distributed; the given first and last β have no effect.
    Laplace,
    /// ᾱ falls as exp(−12 t); the given first and last β have no effect.
    Exp,
}

impl BetaSchedule {
    /// The β of a training process of `num_timesteps`.
    pub fn betas(self, num_timesteps: usize) -> Vec<f64> {
        let scale = 1000.0 / num_timesteps as f64;
        self.betas_between(scale * 1e-4, scale * 0.02, num_timesteps)
    }

    /// The β of `num_timesteps` steps from `start` to `end`.
    pub fn betas_between(self, start: f64, end: f64, num_timesteps: usize) -> Vec<f64> {
        match self {
            Self::Linear => linspace(start, end, num_timesteps),
            Self::ScaledLinear => linspace(start.sqrt(), end.sqrt(), num_timesteps).iter().map(|v| v * v).collect(),
            Self::Warmup10 => warmup(start, end, num_timesteps, 0.1),
            Self::Warmup50 => warmup(start, end, num_timesteps, 0.5),
            Self::Const => vec![end; num_timesteps],
            Self::Jsd => linspace(num_timesteps as f64, 1.0, num_timesteps).iter().map(|v| 1.0 / v).collect(),
            Self::Sigmoid => {
                let ramp = linspace(-6.0, 6.0, num_timesteps);
                ramp.iter().map(|v| 1.0 / (1.0 + (-v).exp()) * (end - start) + start).collect()
            }
            Self::SquaredcosCapV2 => {
                from_alpha_bar(num_timesteps, |t| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2))
            }
            Self::Exp => from_alpha_bar(num_timesteps, |t| (-12.0 * t).exp()),
            Self::Laplace => from_alpha_bar(num_timesteps, |t| {
                let log_snr = -0.5 * 1.0_f64.copysign(0.5 - t) * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln();
                let snr = log_snr.exp();
                (snr / (1.0 + snr)).sqrt()
            }),
        }
    }
}

/// The β, capped at 0.999, for which ᾱ follows `alpha_bar` from 0 to 1.
fn from_alpha_bar(num_timesteps: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f64> {
    let at = |i: usize| alpha_bar(i as f64 / num_timesteps as f64);
    (0..num_timesteps).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999)).collect()
}

fn warmup(start: f64, end: f64, num_timesteps: usize, fraction: f64) -> Vec<f64> {
    let mut betas = linspace(start, end, (num_timesteps as f64 * fraction) as usize);
    betas.resize(num_timesteps, end);
    betas
}

/// `n` values from `start` to `end`, both included, with NumPy's rounding; for n = 1, `start`.
pub(crate) fn linspace(start: f64, end: f64, n: usize) -> Vec<f64> {
    let step = (end - start) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i > 0 && i == n - 1 { end } else { i as f64 * step + start }).collect()
}

/// The tables of a process of `len` steps; index `i` is a step of this process, not an original timestep.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    posterior_variance: Vec<f64>,
}

impl NoiseSchedule {
    /// The tables that follow from `betas`.
    ///
    /// # Errors
    ///
    /// If there is no β or one is outside (0, 1].
    pub fn from_betas(betas: Vec<f64>) -> Result<Self> {
        if betas.is_empty() {
            return Err(Error::config("num_timesteps", "expected at least 1 step, got 0"));
        }
        if let Some((i, beta)) = betas.iter().enumerate().find(|(_, b)| !(**b > 0.0 && **b <= 1.0)) {
            return Err(Error::config(
                "noise_schedule",
                format!(
                    "beta of step {i} is {beta}, expected 0 < beta <= 1: the named schedules need more steps than {}",
                    betas.len()
                ),
            ));
        }
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .map(|b| {
                product *= 1.0 - b;
                product
            })
            .collect();
        let mut schedule = Self { posterior_variance: Vec::new(), betas, alphas_cumprod };
        schedule.posterior_variance = (0..schedule.len())
            .map(|i| schedule.betas[i] * (1.0 - schedule.alpha_cumprod_prev(i)) / (1.0 - schedule.alphas_cumprod[i]))
            .collect();
        Ok(schedule)
    }

    /// The schedule that visits only `steps` (ascending) of this one: β'ᵢ = 1 − ᾱ(τᵢ)/ᾱ(τᵢ₋₁), which leaves ᾱ unchanged at the
    /// visited steps.
    ///
    /// # Errors
    ///
    /// If `steps` is empty, not ascending, or exceeds the last step.
    pub fn respaced(&self, steps: &[usize]) -> Result<Self> {
        if steps.windows(2).any(|w| w[0] >= w[1]) || steps.last().is_some_and(|&last| last >= self.len()) {
            return Err(Error::config("steps", format!("expected ascending steps below {}, got {steps:?}", self.len())));
        }
        let mut last = 1.0;
        let betas = steps
            .iter()
            .map(|&step| {
                let beta = 1.0 - self.alphas_cumprod[step] / last;
                last = self.alphas_cumprod[step];
                beta
            })
            .collect();
        Self::from_betas(betas)
    }

    /// The number of steps.
    #[expect(clippy::len_without_is_empty, reason = "a schedule has at least one step")]
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// β.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// ᾱ: the fraction of the signal's variance that is left after each step.
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// ᾱ one step earlier; 1 (clean data) before the first.
    ///
    /// # Panics
    ///
    /// If `step` is not below [`NoiseSchedule::len`].
    pub fn alpha_cumprod_prev(&self, step: usize) -> f64 {
        if step == 0 { 1.0 } else { self.alphas_cumprod[step - 1] }
    }

    /// ᾱ one step later; 0 (pure noise) after the last.
    pub fn alpha_cumprod_next(&self, step: usize) -> f64 {
        self.alphas_cumprod.get(step + 1).copied().unwrap_or(0.0)
    }

    /// β̃: the variance of q(x₍ₜ₋₁₎ | xₜ, x0). It is 0 at step 0.
    pub fn posterior_variance(&self) -> &[f64] {
        &self.posterior_variance
    }

    /// log β̃, with the value of step 1 at step 0, where β̃ is 0. (A process with a single step has log β there.)
    pub fn posterior_log_variance_clipped(&self, step: usize) -> f64 {
        self.clipped_at_start(&self.posterior_variance, step).ln()
    }

    /// log of the larger fixed variance: β, with β̃ of step 1 at step 0.
    pub fn large_log_variance(&self, step: usize) -> f64 {
        if step == 0 { self.posterior_log_variance_clipped(0) } else { self.betas[step].ln() }
    }

    fn clipped_at_start(&self, table: &[f64], step: usize) -> f64 {
        if step > 0 { table[step] } else { table.get(1).copied().unwrap_or(self.betas[0]) }
    }

    /// The factors of x0 and xₜ in the mean of q(x₍ₜ₋₁₎ | xₜ, x0).
    pub fn posterior_mean_coefficients(&self, step: usize) -> (f64, f64) {
        let (previous, rest) = (self.alpha_cumprod_prev(step), 1.0 - self.alphas_cumprod[step]);
        let of_x0 = self.betas[step] * previous.sqrt() / rest;
        let of_x_t = (1.0 - previous) * (1.0 - self.betas[step]).sqrt() / rest;
        (of_x0, of_x_t)
    }
}
