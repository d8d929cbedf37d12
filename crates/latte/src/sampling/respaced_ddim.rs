//! DDIM and its inversion (Song et al. 2021, equation 12).

use candle_core::Tensor;

use super::{Method, StepInput, StepOutput, predict, required_noise};
use crate::diffusion::{Denoiser, Diffusion};
use crate::{Error, Result};

/// Goes along the straight line that the predicted x0 and ε span. At η = 0 it solves the probability-flow ODE with order 1:
/// twice the steps, half the error. Variance channels play no part.
#[derive(Debug, Clone, Copy)]
pub struct Ddim {
    clip_denoised: bool,
    eta: f64,
}

impl Ddim {
    /// DDIM with noise share `eta` (η).
    ///
    /// # Errors
    ///
    /// If `eta` is not in 0 ..= 1.
    pub fn new(clip_denoised: bool, eta: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::config("eta", format!("expected 0 <= eta <= 1, got {eta}")));
        }
        Ok(Self { clip_denoised, eta })
    }
}

impl Method for Ddim {
    fn draws_noise(&self) -> bool {
        self.eta > 0.0
    }

    fn step(&mut self, diffusion: &Diffusion, input: StepInput<'_>) -> Result<StepOutput> {
        ddim_step(diffusion, input, self.clip_denoised, self.eta)
    }
}

/// One step: √ᾱ' x0 + √(1−ᾱ'−σ²) ε + σ noise with σ = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ'), where ᾱ' is one step earlier.
///
/// # Errors
///
/// If shapes do not fit, the step is out of range, or η > 0 and there is no noise.
pub fn ddim_step(diffusion: &Diffusion, input: StepInput<'_>, clip_denoised: bool, eta: f64) -> Result<StepOutput> {
    let (x0, epsilon) = x0_and_epsilon(diffusion, &input, clip_denoised)?;
    let alpha_bar = diffusion.schedule().alphas_cumprod()[input.step];
    let previous = diffusion.schedule().alpha_cumprod_prev(input.step);
    let sigma = eta * ((1.0 - previous) / (1.0 - alpha_bar)).sqrt() * (1.0 - alpha_bar / previous).sqrt();
    let mut x = at_level(&x0, &epsilon, previous, sigma)?;
    // At step 0, σ is 0 whatever η is.
    if eta > 0.0 && input.step > 0 {
        x = (x + (required_noise(&input)? * sigma)?)?;
    }
    Ok(StepOutput { x, x0 })
}

/// One step of the reversed ODE in the reference's form: from x at `input.step` to one step later (pure ε after the last),
/// with the prediction made at `input.step`.
///
/// # Errors
///
/// If shapes do not fit, or the step is out of range.
pub fn ddim_reverse_step(diffusion: &Diffusion, input: StepInput<'_>, clip_denoised: bool) -> Result<StepOutput> {
    let (x0, epsilon) = x0_and_epsilon(diffusion, &input, clip_denoised)?;
    let x = at_level(&x0, &epsilon, diffusion.schedule().alpha_cumprod_next(input.step), 0.0)?;
    Ok(StepOutput { x, x0 })
}

/// How to invert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvertOptions {
    /// Fixed-point corrections in each step. With 0 the inverse of a step is only approximate (the network is asked at the
    /// wrong x), and so is the round trip, with an error of order 1 in 1 / steps; each correction divides it further.
    /// A step costs 1 + `corrections` predictions.
    pub corrections: usize,
}

impl Default for InvertOptions {
    /// 3 corrections: enough for a round trip within 1e-3 from 50 steps on.
    fn default() -> Self {
        Self { corrections: 3 }
    }
}

/// The noise from which DDIM with η = 0, without clamping, makes the clean latent `x0`: [`super::sample`] backwards.
///
/// Each step is inverted as it is: find x at `step` such that [`ddim_step`] leads to the x that we have.
///
/// # Shapes
///
/// `x0` is `[b, f, c, h, w]`, and so is the result.
///
/// # Errors
///
/// If the denoiser fails or returns another shape than `diffusion` expects.
pub fn invert(diffusion: &Diffusion, denoiser: &dyn Denoiser, x0: &Tensor, options: InvertOptions) -> Result<Tensor> {
    let mut earlier = x0.clone();
    for step in 0..diffusion.num_steps() {
        let previous = diffusion.schedule().alpha_cumprod_prev(step);
        let alpha_bar = diffusion.schedule().alphas_cumprod()[step];
        let mut x = earlier.clone();
        for _ in 0..=options.corrections {
            let prediction = predict(diffusion, denoiser, &x, step)?;
            let (_, epsilon) =
                x0_and_epsilon(diffusion, &StepInput { prediction: &prediction, step, x: &x, noise: None }, false)?;
            let clean = ((&earlier - (&epsilon * (1.0 - previous).sqrt())?)? / previous.sqrt())?;
            x = at_level(&clean, &epsilon, alpha_bar, 0.0)?;
        }
        earlier = x;
    }
    Ok(earlier)
}

/// √ᾱ x0 + √(1−ᾱ−σ²) ε.
fn at_level(x0: &Tensor, epsilon: &Tensor, alpha_bar: f64, sigma: f64) -> Result<Tensor> {
    // Rounding may leave a tiny negative number where the variance is used up by σ.
    let rest = (1.0 - alpha_bar - sigma * sigma).max(0.0);
    Ok(((x0 * alpha_bar.sqrt())? + (epsilon * rest.sqrt())?)?)
}

/// The predicted x0 and the ε that belongs to it (also when x0 was clamped).
fn x0_and_epsilon(diffusion: &Diffusion, input: &StepInput<'_>, clip_denoised: bool) -> Result<(Tensor, Tensor)> {
    let steps = vec![input.step; input.x.dims().first().copied().unwrap_or(0)];
    let (prediction, _variance) = diffusion.split_prediction(input.prediction, input.x)?;
    let mut x0 = diffusion.predict_x0(&prediction, input.x, &steps)?;
    if clip_denoised {
        x0 = x0.clamp(-1.0, 1.0)?;
    }
    let epsilon = diffusion.epsilon_from_x0(&x0, input.x, &steps)?;
    Ok((x0, epsilon))
}
