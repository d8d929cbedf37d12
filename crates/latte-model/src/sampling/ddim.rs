//! DDIM (Song et al. 2021, equation 12) with a fixed stride over original timesteps.

use super::levels::Levels;
use super::prediction::{Factors, Limit, combine, epsilon, split_channels, x0};
use super::{Solver, SolverConfig, StepInput, StepOutput, pure_noise_needs, required_noise, spacing};
use crate::Result;
use crate::diffusion::PredictionType;

/// Order 1; deterministic at η = 0.
#[derive(Debug)]
pub(super) struct Ddim {
    timesteps: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    /// ᾱ after the last step.
    final_alpha_cumprod: f64,
    /// The length of every step, even if the spacing visits timesteps at other distances: a quirk of diffusers.
    stride: usize,
    eta: f64,
    prediction: PredictionType,
    limit: Limit,
}

impl Ddim {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let timesteps = spacing::timesteps(config, steps, true)?;
        pure_noise_needs(config, levels, &timesteps)?;
        Ok(Self {
            timesteps,
            final_alpha_cumprod: if config.set_alpha_to_one { 1.0 } else { levels.alphas_cumprod[0] },
            stride: config.num_train_timesteps / steps,
            alphas_cumprod: levels.alphas_cumprod.clone(),
            eta: config.eta,
            prediction: config.prediction,
            limit: Limit::new(config),
        })
    }
}

impl Solver for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn draws_noise(&self, _call: usize) -> bool {
        self.eta > 0.0
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let timestep = input.timestep_of(&self.timesteps)? as usize;
        let alpha = self.alphas_cumprod[timestep];
        let previous = timestep.checked_sub(self.stride).map_or(self.final_alpha_cumprod, |t| self.alphas_cumprod[t]);
        let at = Factors::of_alpha_cumprod(alpha);
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        // ε is that of the prediction, not of the clamped x0.
        let epsilon = epsilon(self.prediction, &prediction, input.x, at)?;
        let x0 = self.limit.apply(x0(self.prediction, &prediction, input.x, at)?)?;

        let variance = (1.0 - previous) / (1.0 - alpha) * (1.0 - alpha / previous);
        let sigma = self.eta * variance.max(0.0).sqrt();
        // Rounding may give a tiny negative number if σ uses up the variance.
        let direction = (1.0 - previous - sigma * sigma).max(0.0).sqrt();
        let mut x = combine(&[(previous.sqrt(), &x0), (direction, &epsilon)])?;
        if self.eta > 0.0 {
            x = combine(&[(1.0, &x), (sigma, required_noise(&input)?)])?;
        }
        Ok(StepOutput { x, x0 })
    }
}
