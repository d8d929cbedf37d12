//! From noise to data over *original* timesteps (0 ..= 999, also between two): the methods of diffusers' schedulers.
//!
//! [`crate::sampler`] holds the official class models' samplers, which respace the process first; text-to-video folders come
//! with a `scheduler_config.json` instead, and this is what reads and runs it. [`SolverConfig`] is such a file, for any of the
//! methods of [`SolverKind`]; [`SolverConfig::solver`] makes a [`Solver`] for a number of steps; [`solve`] is the loop.
//!
//! To add a method: one file with a type that implements [`Solver`], one variant of [`SolverKind`], its keys and defaults in
//! `config.rs` and one line in [`SolverConfig::solver`].

mod beta_quantile;
mod config;
mod config_keys;
mod ddim;
mod ddpm;
mod deis;
mod dpm_multistep;
mod dpm_singlestep;
mod dpm_update;
mod euler;
mod heun;
mod kdpm2_ancestral;
mod levels;
mod multistep;
mod options;
mod pndm;
mod prediction;
mod sigma_grid;
mod spacing;
mod unipc;

use std::fmt;
use std::ops::ControlFlow;

use candle_core::Tensor;

use crate::diffusion::{Denoiser, PredictionType};
use crate::noise::NoiseSource;
use crate::sampler::{StepOutput, StepReport};
use crate::{Error, Result};

pub use config::SolverConfig;
pub use options::{
    BetaCurve, DpmAlgorithm, FinalSigma, SigmaInterpolation, SigmaSpacing, SolverKind, SolverSpacing, StepFormula, TimestepType,
};

/// One call's inputs: x, and what the network made of it.
#[derive(Debug, Clone, Copy)]
pub struct SolverInput<'a> {
    /// The network's output for the scaled `x`: `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` with variance values behind the
    /// prediction, which only a learned variance has a use for.
    pub prediction: &'a Tensor,
    /// Which of the run's predictions this is, from 0.
    pub call: usize,
    /// `[b, f, c, h, w]`, not scaled.
    pub x: &'a Tensor,
    /// Standard normal, `[b, f, c, h, w]`; none where the call draws none.
    pub noise: Option<&'a Tensor>,
}

impl SolverInput<'_> {
    /// The call's timestep.
    fn timestep_of(&self, timesteps: &[f64]) -> Result<f64> {
        timesteps.get(self.call).copied().ok_or_else(|| {
            Error::config("call", format!("expected a call below {}, the run's predictions, got {}", timesteps.len(), self.call))
        })
    }
}

/// A method, set up for a number of steps: its calls, and its memory of them.
///
/// A step of a method may take several predictions: there are as many calls as [`Solver::timesteps`]. Apart from the memory,
/// which call 0 clears, a call is a pure function.
pub trait Solver: fmt::Debug + Send {
    /// What the network is told in each call: original timesteps, descending, some twice.
    fn timesteps(&self) -> &[f64];

    /// The noise levels of the calls and, behind them, of the end, for methods that know σ.
    fn sigmas(&self) -> Option<Vec<f64>> {
        None
    }

    /// The standard deviation of the noise that the run starts from.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// What x is multiplied by before the network sees it.
    fn input_scale(&self, _call: usize) -> f64 {
        1.0
    }

    /// Whether the call wants noise.
    fn draws_noise(&self, _call: usize) -> bool {
        false
    }

    /// One call. They come in order, from 0.
    ///
    /// # Errors
    ///
    /// If shapes do not fit, noise is missing, or a call comes out of order.
    fn step(&mut self, input: SolverInput<'_>) -> Result<StepOutput>;
}

/// Goes from standard normal noise to a sample, call by call.
///
/// `on_step` hears of every call (its `num_steps` counts calls, not steps) and may stop the loop; then the result is `None`.
///
/// # Shapes
///
/// `noise_start` is `[b, f, c, h, w]` with deviation 1 whatever the method, on the device and in the dtype to sample in; the
/// result is the same.
///
/// # Errors
///
/// If the denoiser fails or returns another shape than expected, or the source has no noise of this shape.
pub fn solve(
    solver: &mut dyn Solver,
    denoiser: &dyn Denoiser,
    noise_start: &Tensor,
    noise: &mut dyn NoiseSource,
    on_step: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Option<Tensor>> {
    let samples = noise_start.dims().first().copied().unwrap_or(0);
    let num_steps = solver.timesteps().len();
    let mut x = prediction::combine(&[(solver.init_noise_sigma(), noise_start)])?;
    for call in 0..num_steps {
        let scaled = prediction::combine(&[(solver.input_scale(call), &x)])?;
        let timesteps = vec![solver.timesteps()[call]; samples];
        let prediction = denoiser.predict(&scaled, &timesteps)?.to_dtype(x.dtype())?.detach();
        let drawn = if solver.draws_noise(call) {
            Some(noise.noise(x.dims())?.to_device(x.device())?.to_dtype(x.dtype())?)
        } else {
            None
        };
        let output = solver.step(SolverInput { prediction: &prediction, call, x: &x, noise: drawn.as_ref() })?;
        x = output.x;
        let report = StepReport { done: call + 1, num_steps, x: x.clone(), x0: output.x0 };
        if on_step(&report).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(x))
}

fn required_noise<'a>(input: &SolverInput<'a>) -> Result<&'a Tensor> {
    input.noise.ok_or_else(|| Error::config("noise", format!("call {} draws noise, and none was given", input.call)))
}

fn out_of_order(call: usize) -> Error {
    Error::config("call", format!("call {call} does not follow the one before: expected calls in order, from 0"))
}

/// At a timestep of pure noise ε says nothing about x0.
fn pure_noise_needs(config: &SolverConfig, levels: &levels::Levels, timesteps: &[f64]) -> Result<()> {
    let pure = |t: &&f64| levels.alphas_cumprod[**t as usize] <= 0.0;
    match timesteps.iter().find(pure) {
        Some(t) if config.prediction == PredictionType::Epsilon => Err(Error::config(
            "prediction_type",
            format!(
                "timestep {t} is pure noise under rescale_betas_zero_snr, where epsilon does not determine x0: expected \
                 `sample` or `v_prediction`, or `leading` timesteps"
            ),
        )),
        _ => Ok(()),
    }
}
