//! DDIM inversion: from a clean latent to the noise that generates it.

use candle_core::Tensor;

use super::StepOutput;
use super::respaced_ddim::{at_level, x0_and_epsilon};
use crate::Result;
use crate::diffusion::{Denoiser, Diffusion};
use crate::finite::expect_finite;

/// One step of the reversed ODE in the reference's form: from x at `step` to the next noisier step (pure ε after the last), with
/// the prediction at `step`.
///
/// # Errors
///
/// If the shapes do not fit, or the step is out of range.
pub fn ddim_reverse_step(
    diffusion: &Diffusion,
    prediction: &Tensor,
    x: &Tensor,
    step: usize,
    clip_denoised: bool,
) -> Result<StepOutput> {
    let (x0, epsilon) = x0_and_epsilon(diffusion, prediction, x, step, clip_denoised)?;
    let x = at_level(&x0, &epsilon, diffusion.schedule().alpha_cumprod_next(step), 0.0)?;
    Ok(StepOutput { x, x0 })
}

/// The options of the inversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvertOptions {
    /// Fixed-point corrections in each step. With 0 the inverse of a step is only approximate (the network gets the wrong x), and
    /// the error of the round trip is of order 1 in 1 / steps; each correction reduces it further. A step costs 1 + `corrections`
    /// predictions.
    pub corrections: usize,
}

impl Default for InvertOptions {
    /// 3 corrections: a round trip within 1e-3 for 50 or more steps.
    fn default() -> Self {
        Self { corrections: 3 }
    }
}

/// The noise from which [`RespacedDdim`](super::RespacedDdim) with η = 0, without clamping, generates the clean latent `x0`: the
/// inverse of [`super::sample`].
///
/// Inverts each step exactly: finds the x from which DDIM's step leads to the current x.
///
/// # Shapes
///
/// `x0` is `[b, f, c, h, w]`, and so is the result.
///
/// # Errors
///
/// If the denoiser fails or returns another shape than `diffusion` expects, or values that are not finite.
pub fn invert(diffusion: &Diffusion, denoiser: &dyn Denoiser, x0: &Tensor, options: InvertOptions) -> Result<Tensor> {
    let mut earlier = x0.clone();
    for step in 0..diffusion.num_steps() {
        let previous = diffusion.schedule().alpha_cumprod_prev(step);
        let alpha_bar = diffusion.schedule().alphas_cumprod()[step];
        let mut x = earlier.clone();
        for _ in 0..=options.corrections {
            let prediction = predict(diffusion, denoiser, &x, step)?;
            let (_, epsilon) = x0_and_epsilon(diffusion, &prediction, &x, step, false)?;
            let clean = ((&earlier - (&epsilon * (1.0 - previous).sqrt())?)? / previous.sqrt())?;
            x = at_level(&clean, &epsilon, alpha_bar, 0.0)?;
        }
        earlier = x;
    }
    Ok(earlier)
}

/// The network's output for a batch whose samples are all at `step`, in the dtype of `x`.
fn predict(diffusion: &Diffusion, denoiser: &dyn Denoiser, x: &Tensor, step: usize) -> Result<Tensor> {
    let steps = vec![step; x.dims().first().copied().unwrap_or(0)];
    let prediction = denoiser.predict(x, &diffusion.original_timesteps(&steps)?)?.to_dtype(x.dtype())?.detach();
    expect_finite(&prediction, || format!("what the network predicts at step {step} of {}", diffusion.num_steps()))?;
    Ok(prediction)
}
