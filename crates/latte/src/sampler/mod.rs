//! From noise to data: the loop, and one file for each method.
//!
//! A method's step is a pure function of the network's prediction, the step, x and noise; the loop calls the network, draws
//! noise and reports. To add a method: one file with a type that implements [`Method`], one variant of [`Sampler`], one line
//! in `Sampler::method`.

mod ddim;
mod ddpm;

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::diffusion::{Denoiser, Diffusion};
use crate::finite::expect_finite;
use crate::noise::NoiseSource;
use crate::{Error, Result};

pub use ddim::{Ddim, InvertOptions, ddim_reverse_step, ddim_step, invert};
pub use ddpm::{Ddpm, ddpm_step};

/// A sampling method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Ancestral sampling, [`Ddpm`].
    Ddpm,
    /// Deterministic at η = 0, [`Ddim`].
    Ddim,
}

impl Sampler {
    /// All methods.
    pub const ALL: [Self; 2] = [Self::Ddpm, Self::Ddim];

    /// Its name in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddpm => "ddpm",
            Self::Ddim => "ddim",
        }
    }

    fn method(self, options: &SampleOptions) -> Result<Box<dyn Method>> {
        Ok(match self {
            Self::Ddpm => Box::new(Ddpm { clip_denoised: options.clip_denoised }),
            Self::Ddim => Box::new(Ddim::new(options.clip_denoised, options.eta)?),
        })
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|sampler| sampler.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|sampler| sampler.name()).collect();
            Error::config("sampler", format!("expected one of {}, got `{text}`", known.join(", ")))
        })
    }
}

/// How to sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleOptions {
    /// The method.
    pub sampler: Sampler,
    /// Clamp every predicted x0 to [−1, 1]: for pixels, never for latents.
    #[serde(default)]
    pub clip_denoised: bool,
    /// DDIM's noise, 0 (none) to 1 (as much as DDPM with the small variance). Other methods have no use for it.
    #[serde(default)]
    pub eta: f64,
}

impl SampleOptions {
    /// `sampler` for latents: no clamping, η = 0.
    pub fn new(sampler: Sampler) -> Self {
        Self { sampler, clip_denoised: false, eta: 0.0 }
    }
}

/// One step's inputs: x at `step` of the process, and what the network made of it.
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// The network's output for `x`: `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` if the variance is learned.
    pub prediction: &'a Tensor,
    /// The step of the process (its length − 1 … 0); the result lies one step earlier, clean after step 0.
    pub step: usize,
    /// `[b, f, c, h, w]`.
    pub x: &'a Tensor,
    /// Standard normal, `[b, f, c, h, w]`; none for a method that draws none.
    pub noise: Option<&'a Tensor>,
}

/// One step's result.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// x one step earlier, `[b, f, c, h, w]`.
    pub x: Tensor,
    /// The x0 that was predicted on the way, `[b, f, c, h, w]`.
    pub x0: Tensor,
}

/// A method: its step, and its memory if it has one.
pub trait Method {
    /// Whether steps want noise.
    fn draws_noise(&self) -> bool;

    /// One step. Steps come in order, from the last step of the process to step 0.
    ///
    /// # Errors
    ///
    /// If shapes do not fit, or noise is missing.
    fn step(&mut self, diffusion: &Diffusion, input: StepInput<'_>) -> Result<StepOutput>;
}

/// What the loop tells after each step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Steps done, 1 to `num_steps`.
    pub done: usize,
    /// Steps in all.
    pub num_steps: usize,
    /// x after the step, `[b, f, c, h, w]`.
    pub x: Tensor,
    /// The x0 predicted in this step: a preview of the result, `[b, f, c, h, w]`.
    pub x0: Tensor,
}

/// Goes from noise `x_t` to a sample, step by step; the network hears the original timesteps.
///
/// `on_step` hears of every step and may stop the loop; then the result is `None`.
///
/// # Shapes
///
/// `x_t` is `[b, f, c, h, w]`, on the device and in the dtype to sample in; so is the result.
///
/// # Errors
///
/// If the options are impossible, the denoiser fails, or it returns another shape than `diffusion` expects, or values that are not
/// finite.
pub fn sample(
    diffusion: &Diffusion,
    denoiser: &dyn Denoiser,
    x_t: &Tensor,
    noise: &mut dyn NoiseSource,
    options: &SampleOptions,
    on_step: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Option<Tensor>> {
    let mut method = options.sampler.method(options)?;
    let num_steps = diffusion.num_steps();
    let mut x = x_t.clone();
    for step in (0..num_steps).rev() {
        let prediction = predict(diffusion, denoiser, &x, step)?;
        let drawn =
            if method.draws_noise() { Some(noise.noise(x.dims())?.to_device(x.device())?.to_dtype(x.dtype())?) } else { None };
        let input = StepInput { prediction: &prediction, step, x: &x, noise: drawn.as_ref() };
        let output = method.step(diffusion, input)?;
        x = output.x;
        let report = StepReport { done: num_steps - step, num_steps, x: x.clone(), x0: output.x0 };
        if on_step(&report).is_break() {
            return Ok(None);
        }
    }
    expect_finite(&x, || "what the sampler gives".into())?;
    Ok(Some(x))
}

/// The network's output for a batch that is all at `step`, in the dtype of `x`.
fn predict(diffusion: &Diffusion, denoiser: &dyn Denoiser, x: &Tensor, step: usize) -> Result<Tensor> {
    let steps = vec![step; x.dims().first().copied().unwrap_or(0)];
    let prediction = denoiser.predict(x, &diffusion.original_timesteps(&steps)?)?.to_dtype(x.dtype())?.detach();
    expect_finite(&prediction, || {
        format!("what the network predicts in step {} of {}", diffusion.num_steps() - step, diffusion.num_steps())
    })?;
    Ok(prediction)
}

fn required_noise<'a>(input: &StepInput<'a>) -> Result<&'a Tensor> {
    input.noise.ok_or_else(|| Error::config("noise", "this method draws noise in every step, and none was given"))
}
