//! DDPM: ancestral sampling (Ho et al. 2020, algorithm 2).

use super::{Method, StepInput, StepOutput, required_noise};
use crate::Result;
use crate::diffusion::Diffusion;

/// Draws from p(x₍ₜ₋₁₎ | xₜ) at every step. The distribution of the samples converges with order 1 in 1 / steps.
#[derive(Debug, Clone, Copy)]
pub struct Ddpm {
    /// Clamp every predicted x0 to [−1, 1].
    pub clip_denoised: bool,
}

impl Method for Ddpm {
    fn draws_noise(&self) -> bool {
        true
    }

    fn step(&mut self, diffusion: &Diffusion, input: StepInput<'_>) -> Result<StepOutput> {
        ddpm_step(diffusion, input, self.clip_denoised)
    }
}

/// One step: the mean of p(x₍ₜ₋₁₎ | xₜ), plus noise with its variance except at step 0.
///
/// # Errors
///
/// If shapes do not fit, the step is out of range, or there is no noise.
pub fn ddpm_step(diffusion: &Diffusion, input: StepInput<'_>, clip_denoised: bool) -> Result<StepOutput> {
    let steps = vec![input.step; input.x.dims().first().copied().unwrap_or(0)];
    let reverse = diffusion.p_mean_variance(input.prediction, input.x, &steps, clip_denoised)?;
    if input.step == 0 {
        return Ok(StepOutput { x: reverse.mean, x0: reverse.x0 });
    }
    let deviation = (reverse.log_variance * 0.5)?.exp()?;
    let x = (reverse.mean + required_noise(&input)?.broadcast_mul(&deviation)?)?;
    Ok(StepOutput { x, x0: reverse.x0 })
}
