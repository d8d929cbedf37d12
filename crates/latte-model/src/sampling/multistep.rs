//! The common parts of the multistep methods: the visited noise levels, and the memory of earlier predictions.

use std::collections::VecDeque;

use candle_core::{Device, Tensor};

use super::levels::Levels;
use super::sigma_grid::round_to_single;
use super::{FinalSigma, Sampler, SavedState, SigmaSpacing, SolverConfig, StepInput, out_of_order, spacing};
use crate::diffusion::BetaSchedule;
use crate::{Error, Result};

/// Shorter runs lower the order of their last steps, if `lower_order_final` is set.
const SHORT_RUN: usize = 15;

/// The visited timesteps and their σ, descending.
#[derive(Debug, Clone)]
pub(super) struct MultistepGrid {
    /// Integers, one for each σ except the last.
    pub(super) timesteps: Vec<f64>,
    /// The last one is the end of the run.
    pub(super) sigmas: Vec<f64>,
}

impl MultistepGrid {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let usable = usable_timesteps(config, levels)?;
        let mut timesteps = spacing::multistep_timesteps(config, steps, usable)?;
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&t| levels.sigma_at(t)).collect();
        let max = config.sigma_max.unwrap_or_else(|| levels.sigma_max());
        let min = config.sigma_min.unwrap_or_else(|| levels.sigma_min());
        let spread = spacing::spread(config.sigma_spacing, max, min, steps)?;
        if let Some(spread) = &spread {
            let rounds = match config.sigma_spacing {
                SigmaSpacing::Karras | SigmaSpacing::Lu => {
                    let is_multistep = matches!(config.kind, Sampler::DpmMultistep | Sampler::DpmMultistepSde);
                    !is_multistep || config.beta_schedule != BetaSchedule::SquaredcosCapV2
                }
                _ => false,
            };
            let round = |t: f64| if rounds { t.round_ties_even() } else { t.trunc() };
            timesteps = spread.iter().map(|&s| round(levels.timestep_of(s))).collect();
            sigmas.clone_from(spread);
        }
        let last_visited = sigmas.last().copied().unwrap_or_default();
        sigmas.push(match (config.kind, config.final_sigma) {
            // DEIS divides by the last σ: if the spacing ends at the smallest σ, the last step has length 0.
            (Sampler::Deis, _) | (Sampler::Unipc, FinalSigma::SigmaMin) if spread.is_some() => last_visited,
            (Sampler::Deis, _) | (_, FinalSigma::SigmaMin) => levels.sigma_min(),
            (_, FinalSigma::Zero) => 0.0,
        });
        round_to_single(&mut sigmas);
        Ok(Self { timesteps, sigmas })
    }

    /// The σ at the start and the end of a call. Begins the call in `memory`.
    pub(super) fn begin(&self, input: &StepInput<'_>, memory: &mut Memory) -> Result<(f64, f64)> {
        input.timestep_of(&self.timesteps)?;
        memory.begin(input.call)?;
        Ok((self.sigmas[input.call], self.sigmas[input.call + 1]))
    }

    /// The order of a step: rising in the first steps, until enough predictions are remembered, and lowered at the end of a short
    /// run with `lower_order_final`.
    pub(super) fn order_at(&self, call: usize, order: usize, lower_order_final: bool) -> usize {
        let left = self.timesteps.len() - call; // steps left, including this one
        let short = lower_order_final && self.timesteps.len() < SHORT_RUN;
        order.min(call + 1).min(if short { left } else { usize::MAX })
    }

    /// Whether the step ends at clean data, where only order 1 is defined (and exact).
    pub(super) fn ends_clean(&self, call: usize) -> bool {
        self.sigmas[call + 1] <= 0.0
    }
}

/// The number of timesteps, from the first one, with λ = −log σ no lower than `lambda_min_clipped`.
fn usable_timesteps(config: &SolverConfig, levels: &Levels) -> Result<usize> {
    let usable = levels.sigmas.iter().filter(|s| -s.ln() >= config.lambda_min_clipped).count();
    if usable == 0 {
        return Err(Error::config(
            "lambda_min_clipped",
            format!(
                "no timestep has lambda >= {}: expected a number below {}",
                config.lambda_min_clipped,
                -levels.sigma_min().ln()
            ),
        ));
    }
    Ok(usable)
}

/// The predictions at earlier σ, newest first. Two at one σ count once, because methods divide by the distance.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<(f64, Tensor)>,
    next_call: usize,
}

impl Memory {
    /// Begins call `call`; the first call clears the memory of an earlier run.
    fn begin(&mut self, call: usize) -> Result<()> {
        if call == 0 {
            self.entries.clear();
        } else if call != self.next_call {
            return Err(out_of_order(call));
        }
        self.next_call = call + 1;
        Ok(())
    }

    /// Stores the prediction at `sigma`, and keeps at most `capacity` predictions.
    pub(super) fn push(&mut self, sigma: f64, prediction: Tensor, capacity: usize) {
        if self.entries.front().is_some_and(|(newest, _)| *newest == sigma) {
            self.entries.pop_front();
        }
        self.entries.push_front((sigma, prediction));
        self.entries.truncate(capacity);
    }

    pub(super) fn save(&self) -> Result<SavedState> {
        let mut state = SavedState::default();
        state.set_number("memory.next_call", self.next_call);
        state.set_number("memory.len", self.entries.len());
        for (age, (_, prediction)) in self.entries.iter().enumerate() {
            state.set(format!("memory.{age}"), prediction);
        }
        let sigmas: Vec<f64> = self.entries.iter().map(|(sigma, _)| *sigma).collect();
        if !sigmas.is_empty() {
            state.set("memory.sigmas", &Tensor::new(sigmas, &Device::Cpu)?);
        }
        Ok(state)
    }

    pub(super) fn restored(state: &SavedState) -> Result<Self> {
        let len = state.number("memory.len")?;
        let sigmas: Vec<f64> = if len == 0 { Vec::new() } else { state.tensor("memory.sigmas")?.to_vec1()? };
        if sigmas.len() != len {
            let what = format!("expected the noise levels of {len} predictions, got {}", sigmas.len());
            return Err(Error::config("saved state", what));
        }
        let entry = |(age, sigma)| Ok((sigma, state.tensor(&format!("memory.{age}"))?.clone()));
        let entries = sigmas.into_iter().enumerate().map(entry).collect::<Result<_>>()?;
        Ok(Self { entries, next_call: state.number("memory.next_call")? })
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// λ = −log σ of the `age`-th newest prediction.
    pub(super) fn lambda(&self, age: usize) -> f64 {
        -self.entries[age].0.ln()
    }

    pub(super) fn sigma(&self, age: usize) -> f64 {
        self.entries[age].0
    }

    pub(super) fn prediction(&self, age: usize) -> &Tensor {
        &self.entries[age].1
    }
}
