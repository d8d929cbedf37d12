//! DDIM (Song et al. 2021, equation 12) over a respaced process, like the sampler of the official class models.

use candle_core::Tensor;

use super::{Solver, StepInput, StepOutput, required_noise};
use crate::diffusion::Diffusion;
use crate::{Error, Result};

/// Moves along the line that the predicted x0 and ε span. At η = 0 it solves the probability-flow ODE with order 1: twice the
/// steps, half the error. Variance channels are not used.
#[derive(Debug, Clone)]
pub struct RespacedDdim {
    diffusion: Diffusion,
    timesteps: Vec<f64>,
    clip_denoised: bool,
    eta: f64,
}

impl RespacedDdim {
    /// DDIM with `eta` (η) over every step of `diffusion`. With `clip_denoised` every predicted x0 is clamped to [−1, 1].
    ///
    /// # Errors
    ///
    /// If `eta` is not in 0 ..= 1.
    pub fn new(diffusion: Diffusion, clip_denoised: bool, eta: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::config("eta", format!("expected 0 <= eta <= 1, got {eta}")));
        }
        Ok(Self { timesteps: descending(&diffusion), diffusion, clip_denoised, eta })
    }
}

/// The original timestep of each call.
pub(super) fn descending(diffusion: &Diffusion) -> Vec<f64> {
    diffusion.timestep_map().iter().rev().map(|&t| t as f64).collect()
}

impl Solver for RespacedDdim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn draws_noise(&self, _call: usize) -> bool {
        self.eta > 0.0
    }

    /// √ᾱ' x0 + √(1−ᾱ'−σ²) ε + σ noise with σ = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ'), where ᾱ' is one step earlier.
    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        input.timestep_of(&self.timesteps)?;
        let (diffusion, step) = (&self.diffusion, self.timesteps.len() - 1 - input.call);
        let (x0, epsilon) = x0_and_epsilon(diffusion, input.prediction, input.x, step, self.clip_denoised)?;
        let alpha_bar = diffusion.schedule().alphas_cumprod()[step];
        let previous = diffusion.schedule().alpha_cumprod_prev(step);
        let sigma = self.eta * ((1.0 - previous) / (1.0 - alpha_bar)).sqrt() * (1.0 - alpha_bar / previous).sqrt();
        let mut x = at_level(&x0, &epsilon, previous, sigma)?;
        // At step 0, σ is 0 for any η.
        if self.eta > 0.0 && step > 0 {
            x = (x + (required_noise(&input)? * sigma)?)?;
        }
        Ok(StepOutput { x, x0 })
    }
}

/// √ᾱ x0 + √(1−ᾱ−σ²) ε.
pub(super) fn at_level(x0: &Tensor, epsilon: &Tensor, alpha_bar: f64, sigma: f64) -> Result<Tensor> {
    // Rounding may give a tiny negative number if σ uses up the variance.
    let rest = (1.0 - alpha_bar - sigma * sigma).max(0.0);
    Ok(((x0 * alpha_bar.sqrt())? + (epsilon * rest.sqrt())?)?)
}

/// The predicted x0 and the corresponding ε (also if x0 was clamped).
pub(super) fn x0_and_epsilon(
    diffusion: &Diffusion,
    prediction: &Tensor,
    x: &Tensor,
    step: usize,
    clip_denoised: bool,
) -> Result<(Tensor, Tensor)> {
    let steps = vec![step; x.dims().first().copied().unwrap_or(0)];
    let (prediction, _variance) = diffusion.split_prediction(prediction, x)?;
    let mut x0 = diffusion.predict_x0(&prediction, x, &steps)?;
    if clip_denoised {
        x0 = x0.clamp(-1.0, 1.0)?;
    }
    let epsilon = diffusion.epsilon_from_x0(&x0, x, &steps)?;
    Ok((x0, epsilon))
}
