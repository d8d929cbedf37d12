//! DDPM: ancestral sampling (Ho et al. 2020, algorithm 2) over some of the original timesteps.

use candle_core::Tensor;

use super::levels::Levels;
use super::prediction::{Factors, Limit, combine, split_channels, x0};
use super::{Solver, SolverConfig, StepInput, StepOutput, pure_noise_needs, required_noise, spacing};
use crate::diffusion::{PredictionType, VarianceType};
use crate::{Error, Result};

/// The lower bound of all variances.
const SMALLEST_VARIANCE: f64 = 1e-20;

/// Draws from p(x at the next timestep | x).
#[derive(Debug)]
pub(super) struct Ddpm {
    timesteps: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    prediction: PredictionType,
    variance: VarianceType,
    limit: Limit,
}

impl Ddpm {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let timesteps = spacing::timesteps(config, steps, true)?;
        pure_noise_needs(config, levels, &timesteps)?;
        Ok(Self {
            timesteps,
            alphas_cumprod: levels.alphas_cumprod.clone(),
            prediction: config.prediction,
            variance: config.variance,
            limit: Limit::new(config),
        })
    }

    /// The noise times its deviation: `beta` is that of this step, `small` the variance of q(x' | x, x0).
    fn deviate(&self, noise: &Tensor, values: Option<Tensor>, beta: f64, small: f64) -> Result<Tensor> {
        let values = match (self.variance, values) {
            (VarianceType::FixedSmall, _) => return combine(&[(small.sqrt(), noise)]),
            (VarianceType::FixedLarge, _) => return combine(&[(beta.sqrt(), noise)]),
            (VarianceType::Learned | VarianceType::LearnedRange, Some(values)) => values,
            (VarianceType::Learned | VarianceType::LearnedRange, None) => {
                return Err(Error::config(
                    "variance_type",
                    "the variance is learned, and the network predicts none (its output has as many channels as the latent): \
                     take fixed_small",
                ));
            }
        };
        let deviation = if self.variance == VarianceType::Learned {
            // diffusers' `learned` is σ² itself; a network may predict a negative number.
            values.clamp(SMALLEST_VARIANCE, f64::MAX)?.sqrt()?
        } else {
            // log σ² is interpolated between the log of the small variance (−1) and log β (1).
            let (low, high) = (small.ln(), beta.ln());
            (values.affine(0.25 * (high - low), 0.25 * (high + low))?).exp()?
        };
        Ok((noise * deviation)?)
    }
}

impl Solver for Ddpm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn draws_noise(&self, call: usize) -> bool {
        self.timesteps.get(call).is_some_and(|&t| t > 0.0)
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let timestep = input.timestep_of(&self.timesteps)?;
        let alpha = self.alphas_cumprod[timestep as usize];
        let previous = self.timesteps.get(input.call + 1).map_or(1.0, |&t| self.alphas_cumprod[t as usize]);
        let beta = 1.0 - alpha / previous;
        let (prediction, values) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0(self.prediction, &prediction, input.x, Factors::of_alpha_cumprod(alpha))?)?;

        let of_x0 = previous.sqrt() * beta / (1.0 - alpha);
        let of_x = (alpha / previous).sqrt() * (1.0 - previous) / (1.0 - alpha);
        let mut x = combine(&[(of_x0, &x0), (of_x, input.x)])?;
        if timestep > 0.0 {
            let small = ((1.0 - previous) / (1.0 - alpha) * beta).max(SMALLEST_VARIANCE);
            x = (x + self.deviate(required_noise(&input)?, values, beta, small)?)?;
        }
        Ok(StepOutput { x, x0 })
    }
}
