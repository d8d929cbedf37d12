//! Sampling: the loop, and one file for each method.
//!
//! [`SolverConfig`] selects a method of [`Sampler`], its process and its options; [`SolverConfig::solver`] makes a [`Solver`] for a
//! number of steps; [`sample`] is the loop: it calls the network, draws noise and reports. A solver's step is a pure function of
//! the network's prediction, x, noise and the solver's memory. A stopped run returns a [`SamplingState`], from which it resumes bit
//! for bit.
//!
//! Methods use *original* timesteps (0 ..= 999, which may be fractional) or noise levels, as diffusers' schedulers do. The official
//! class models' DDIM and DDPM respace the process first: [`RespacedDdim`], [`RespacedDdpm`].
//!
//! A new method is a file with a type that implements [`Solver`], its `mod` line below and its row in `config.rs`; see
//! `docs/how-to/add-sampler.md`.

mod asked;
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
mod invert;
mod kdpm2_ancestral;
mod levels;
mod multistep;
mod options;
mod pndm;
mod prediction;
mod process;
mod respaced_ddim;
mod respaced_ddpm;
mod same_run;
mod sigma_grid;
mod spacing;
mod state;
mod unipc;

use candle_core::Tensor;
use latte_ops::CancelToken;
use std::fmt;

use crate::diffusion::{Denoiser, PredictionType};
use crate::finite::expect_finite;
use crate::noise::NoiseSource;
use crate::{Error, Result};

pub use asked::{AskedFor, Sampling};
pub use config::{Sampler, SolverConfig};
pub use invert::{InvertOptions, ddim_reverse_step, invert};
pub use options::{DpmAlgorithm, FinalSigma, SigmaInterpolation, SigmaSpacing, StepFormula, TimestepType};
pub use respaced_ddim::RespacedDdim;
pub use respaced_ddpm::RespacedDdpm;
pub use state::{SamplingState, SavedState};

/// One call's inputs: x, the network's prediction for it, and noise.
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// The network's output for the scaled `x`: `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` with variance values after the prediction,
    /// which only a learned variance uses.
    pub prediction: &'a Tensor,
    /// The index of this prediction in the run, from 0.
    pub call: usize,
    /// `[b, f, c, h, w]`, not scaled.
    pub x: &'a Tensor,
    /// Standard normal, `[b, f, c, h, w]`; `None` if the call draws no noise.
    pub noise: Option<&'a Tensor>,
}

impl StepInput<'_> {
    /// The call's timestep.
    fn timestep_of(&self, timesteps: &[f64]) -> Result<f64> {
        timesteps.get(self.call).copied().ok_or_else(|| {
            Error::config("call", format!("expected a call below {}, the run's predictions, got {}", timesteps.len(), self.call))
        })
    }
}

/// One call's result.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// x after the call, `[b, f, c, h, w]`.
    pub x: Tensor,
    /// The predicted x0, `[b, f, c, h, w]`.
    pub x0: Tensor,
}

/// A method, set up for a number of steps: its calls, and its memory of them.
///
/// A step of a method may take several predictions: there are as many calls as [`Solver::timesteps`]. Apart from the memory,
/// which call 0 clears, a call is a pure function.
pub trait Solver: fmt::Debug + Send {
    /// The timesteps that the network gets in each call: original timesteps, descending; some methods repeat timesteps.
    fn timesteps(&self) -> &[f64];

    /// The noise levels of the calls, followed by the last one, for methods that use σ.
    fn sigmas(&self) -> Option<Vec<f64>> {
        None
    }

    /// The standard deviation of the initial noise.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// The factor of x in the network's input.
    fn input_scale(&self, _call: usize) -> f64 {
        1.0
    }

    /// Whether the call needs noise.
    fn draws_noise(&self, _call: usize) -> bool {
        false
    }

    /// Runs one call. Calls must be made in order, from 0.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, noise is missing, or a call is out of order.
    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput>;

    /// The memory of the calls so far; empty for a method without memory.
    ///
    /// # Errors
    ///
    /// If the memory cannot be copied.
    fn save(&self) -> Result<SavedState> {
        Ok(SavedState::default())
    }

    /// Restores a memory that a solver of the same configuration saved: the next call is the one after the save.
    ///
    /// # Errors
    ///
    /// If something is missing, because the memory is that of another method.
    fn restore(&mut self, _state: &SavedState) -> Result<()> {
        Ok(())
    }
}

/// The report of the loop after each call.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Calls done, 1 to `num_steps`.
    pub done: usize,
    /// The number of all calls.
    pub num_steps: usize,
    /// x after the call, `[b, f, c, h, w]`.
    pub x: Tensor,
    /// The x0 predicted in this call: a preview of the result, `[b, f, c, h, w]`.
    pub x0: Tensor,
}

/// The start of a run.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Standard normal noise, `[b, f, c, h, w]`, with deviation 1 for every method.
    Noise(&'a Tensor),
    /// The state of a stopped run.
    State(&'a SamplingState),
}

impl<'a> From<&'a Tensor> for Start<'a> {
    fn from(noise: &'a Tensor) -> Self {
        Self::Noise(noise)
    }
}

impl<'a> From<&'a SamplingState> for Start<'a> {
    fn from(state: &'a SamplingState) -> Self {
        Self::State(state)
    }
}

/// The end of a run.
#[derive(Debug, Clone)]
pub enum Sampled {
    /// The run finished; the sample is `[b, f, c, h, w]`.
    Finished(Tensor),
    /// The run was stopped, and can be resumed from this state.
    Stopped(Box<SamplingState>),
}

impl Sampled {
    /// The sample; `None` if the run was stopped.
    pub fn finished(self) -> Option<Tensor> {
        match self {
            Self::Finished(x) => Some(x),
            Self::Stopped(_) => None,
        }
    }
}

/// Samples call by call, from standard normal noise or from the state of a stopped run.
///
/// `on_step` is called after every call of the denoiser (its `num_steps` counts calls, not steps). `cancel` stops the run between
/// two calls; a denoiser with the same token stops it within a call. A resumed run gives the same bits as one that was never
/// stopped, if the solver, the denoiser and the position of the noise source are the same.
///
/// # Shapes
///
/// x is `[b, f, c, h, w]` throughout, with the device and dtype of the start.
///
/// # Errors
///
/// If the denoiser fails or returns an unexpected shape or values that are not finite, the source has no noise of this shape, or
/// the state belongs to another run.
pub fn sample<'a>(
    solver: &mut dyn Solver,
    denoiser: &dyn Denoiser,
    start: impl Into<Start<'a>>,
    noise: &mut dyn NoiseSource,
    cancel: &CancelToken,
    on_step: &mut dyn FnMut(&StepReport),
) -> Result<Sampled> {
    let num_steps = solver.timesteps().len();
    let (mut x, first) = match start.into() {
        Start::Noise(noise) => (prediction::combine(&[(solver.init_noise_sigma(), noise)])?, 0),
        Start::State(state) => {
            state.check(num_steps)?;
            solver.restore(&state.solver)?;
            (state.x.clone(), state.done)
        }
    };
    let samples = x.dims().first().copied().unwrap_or(0);
    for call in first..num_steps {
        let scaled = prediction::combine(&[(solver.input_scale(call), &x)])?;
        let timesteps = vec![solver.timesteps()[call]; samples];
        let prediction = match denoiser.predict(&scaled, &timesteps) {
            // This call has not changed the solver or the noise, so the run can resume before it.
            Err(Error::Ops(latte_ops::Error::Cancelled)) => {
                let state = SamplingState { done: call, num_steps, x, solver: solver.save()? };
                return Ok(Sampled::Stopped(Box::new(state)));
            }
            prediction => prediction?.to_dtype(x.dtype())?.detach(),
        };
        expect_finite(&prediction, || format!("what the network predicts in step {} of {num_steps}", call + 1))?;
        let drawn = if solver.draws_noise(call) {
            Some(noise.noise(x.dims())?.to_device(x.device())?.to_dtype(x.dtype())?)
        } else {
            None
        };
        let output = solver.step(StepInput { prediction: &prediction, call, x: &x, noise: drawn.as_ref() })?;
        x = output.x;
        let report = StepReport { done: call + 1, num_steps, x: x.clone(), x0: output.x0 };
        on_step(&report);
        if cancel.is_cancelled() {
            let state = SamplingState { done: call + 1, num_steps, x, solver: solver.save()? };
            return Ok(Sampled::Stopped(Box::new(state)));
        }
    }
    expect_finite(&x, || "what the sampler gives".into())?;
    Ok(Sampled::Finished(x))
}

fn required_noise<'a>(input: &StepInput<'a>) -> Result<&'a Tensor> {
    input.noise.ok_or_else(|| Error::config("noise", format!("call {} draws noise, and none was given", input.call)))
}

fn out_of_order(call: usize) -> Error {
    Error::config("call", format!("call {call} does not follow the one before: expected calls in order, from 0"))
}

/// Checks that ε is not predicted at a timestep of pure noise, where it does not determine x0.
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
