//! DDPM: ancestral sampling (Ho et al. 2020, algorithm 2) over a respaced process, like the sampler of the official class models.

use super::respaced_ddim::descending;
use super::{Solver, StepInput, StepOutput, required_noise};
use crate::Result;
use crate::diffusion::Diffusion;

/// Draws from p(x₍ₜ₋₁₎ | xₜ) at every step. The distribution of the samples converges with order 1 in 1 / steps.
#[derive(Debug, Clone)]
pub struct RespacedDdpm {
    diffusion: Diffusion,
    timesteps: Vec<f64>,
    clip_denoised: bool,
}

impl RespacedDdpm {
    /// DDPM over every step of `diffusion`. With `clip_denoised` every predicted x0 is clamped to [−1, 1].
    pub fn new(diffusion: Diffusion, clip_denoised: bool) -> Self {
        Self { timesteps: descending(&diffusion), diffusion, clip_denoised }
    }
}

impl Solver for RespacedDdpm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn draws_noise(&self, _call: usize) -> bool {
        true
    }

    /// The mean of p(x₍ₜ₋₁₎ | xₜ), plus noise with its variance except at step 0.
    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        input.timestep_of(&self.timesteps)?;
        let step = self.timesteps.len() - 1 - input.call;
        let steps = vec![step; input.x.dims().first().copied().unwrap_or(0)];
        let reverse = self.diffusion.p_mean_variance(input.prediction, input.x, &steps, self.clip_denoised)?;
        if step == 0 {
            return Ok(StepOutput { x: reverse.mean, x0: reverse.x0 });
        }
        let deviation = (reverse.log_variance * 0.5)?.exp()?;
        let x = (reverse.mean + required_noise(&input)?.broadcast_mul(&deviation)?)?;
        Ok(StepOutput { x, x0: reverse.x0 })
    }
}
