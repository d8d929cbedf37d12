//! DPM-Solver and DPM-Solver++ (Lu et al. 2022), singlestep: steps form groups; the later steps of a group start again from the
//! group's first x, with the predictions made since.

use candle_core::Tensor;

use super::dpm_multistep::DpmNetwork;
use super::dpm_update::weights;
use super::levels::Levels;
use super::multistep::{Memory, MultistepGrid};
use super::prediction::combine;
use super::{FinalSigma, SavedState, Solver, SolverConfig, StepFormula, StepInput, StepOutput, out_of_order, required_noise};
use crate::Result;

/// Orders 1 to 3 with one prediction per step: groups of 1, 2 or 3 steps.
#[derive(Debug)]
pub(super) struct DpmSinglestep {
    grid: MultistepGrid,
    network: DpmNetwork,
    formula: StepFormula,
    /// The order of each step, which is also its position in its group.
    orders: Vec<usize>,
    memory: Memory,
    /// x at the start of the group.
    start: Option<Tensor>,
}

impl DpmSinglestep {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        Ok(Self {
            grid: MultistepGrid::new(config, levels, steps)?,
            network: DpmNetwork::new(config),
            formula: config.formula,
            orders: orders(config, steps),
            memory: Memory::default(),
            start: None,
        })
    }
}

/// The order of each step.
fn orders(config: &SolverConfig, steps: usize) -> Vec<usize> {
    let mut orders: Vec<usize> = (0..steps).map(|step| step % config.order + 1).collect();
    // With `lower_order_final`, the last full group becomes a group that is shorter by one and a step of order 1. Only order 1 can
    // go to clean data.
    let is_full = steps.is_multiple_of(config.order);
    if config.final_sigma == FinalSigma::Zero || (config.lower_order_final && is_full) {
        orders[steps - 1] = 1;
    }
    orders
}

impl Solver for DpmSinglestep {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn sigmas(&self) -> Option<Vec<f64>> {
        Some(self.grid.sigmas.clone())
    }

    fn draws_noise(&self, _call: usize) -> bool {
        self.network.algorithm.is_stochastic()
    }

    fn save(&self) -> Result<SavedState> {
        let mut state = self.memory.save()?;
        state.set_optional("start", self.start.as_ref());
        Ok(state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        self.memory = Memory::restored(state)?;
        self.start = state.get("start").cloned();
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let (here, to) = self.grid.begin(&input, &mut self.memory)?;
        let (interpolated, x0) = self.network.interpolated(&input, here)?;
        let order = self.orders[input.call];
        if order == 1 {
            self.memory.clear();
            self.start = Some(input.x.clone());
        }
        self.memory.push(here, interpolated, order);
        let start = self.start.as_ref().ok_or_else(|| out_of_order(input.call))?;

        // The group's first prediction is the oldest. Two predictions at one σ count once, so there may be fewer than `order`.
        let memory = &self.memory;
        let base = memory.len() - 1;
        let from = memory.sigma(base);
        let w = weights(self.network.algorithm, from, to);
        let h = from.ln() - to.ln();
        let r = |age: usize| (memory.lambda(age) - memory.lambda(base)) / h;
        let mut terms = vec![(w.x, start)];
        match base {
            _ if h <= 0.0 => {}
            0 => terms.push((w.d0, memory.prediction(0))),
            1 => {
                let of_difference = if self.formula == StepFormula::Heun { w.d1 } else { w.d1_midpoint } / r(0);
                terms.push((w.d0 - of_difference, memory.prediction(1)));
                terms.push((of_difference, memory.prediction(0)));
            }
            _ => {
                // D1 and D2 from the slopes from the first prediction to the middle one, s1, and to the newest one, s0.
                let (r0, r1) = (r(0), r(1));
                let (of_s0, of_s1) = if self.formula == StepFormula::Heun {
                    ((2.0 * w.d2 - w.d1 * r1) / (r0 - r1), (w.d1 * r0 - 2.0 * w.d2) / (r0 - r1))
                } else {
                    (w.d1, 0.0)
                };
                terms.push((w.d0 - of_s0 / r0 - of_s1 / r1, memory.prediction(2)));
                terms.push((of_s1 / r1, memory.prediction(1)));
                terms.push((of_s0 / r0, memory.prediction(0)));
            }
        }
        if self.network.algorithm.is_stochastic() {
            terms.push((w.noise, required_noise(&input)?));
        }
        Ok(StepOutput { x: combine(&terms)?, x0 })
    }
}
