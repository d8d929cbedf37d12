//! DPM-Solver and DPM-Solver++ (Lu et al. 2022), multistep: derivatives are approximated from earlier predictions.

use candle_core::Tensor;

use super::dpm_update::{Weights, weights};
use super::levels::Levels;
use super::multistep::{Memory, MultistepGrid};
use super::prediction::{Factors, Limit, combine, epsilon, epsilon_of_x0, split_channels, x0};
use super::{DpmAlgorithm, FinalSigma, SavedState, Solver, SolverConfig, StepFormula, StepInput, StepOutput, required_noise};
use crate::Result;
use crate::diffusion::PredictionType;

/// Orders 1 and 2, and a formula that diffusers calls order 3, with one prediction per step.
#[derive(Debug)]
pub(super) struct DpmMultistep {
    grid: MultistepGrid,
    network: DpmNetwork,
    order: usize,
    formula: StepFormula,
    lower_order_final: bool,
    /// Whether the last step always has order 1.
    euler_at_final: bool,
    memory: Memory,
}

impl DpmMultistep {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        Ok(Self {
            grid: MultistepGrid::new(config, levels, steps)?,
            network: DpmNetwork::new(config),
            order: config.order,
            formula: config.formula,
            lower_order_final: config.lower_order_final,
            euler_at_final: config.euler_at_final || config.final_sigma == FinalSigma::Zero,
            memory: Memory::default(),
        })
    }

    fn order_at(&self, call: usize) -> usize {
        let is_last = call + 1 == self.grid.timesteps.len();
        if is_last && (self.euler_at_final || self.grid.ends_clean(call)) {
            return 1;
        }
        self.grid.order_at(call, self.order, self.lower_order_final).min(self.memory.len())
    }
}

impl Solver for DpmMultistep {
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
        self.memory.save()
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        self.memory = Memory::restored(state)?;
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let (from, to) = self.grid.begin(&input, &mut self.memory)?;
        let (interpolated, x0) = self.network.interpolated(&input, from)?;
        self.memory.push(from, interpolated, self.order);

        let w = weights(self.network.algorithm, from, to);
        let memory = &self.memory;
        let h = from.ln() - to.ln();
        // Distances to the earlier predictions, in units of this step.
        let r = |age: usize| (memory.lambda(age) - memory.lambda(age + 1)) / h;
        let mut terms = vec![(w.x, input.x)];
        match self.order_at(input.call) {
            // A step of length 0 does not move; distances relative to it would be infinite.
            _ if h <= 0.0 => {}
            1 => terms.push((w.d0, memory.prediction(0))),
            2 => {
                let of_difference = if self.formula == StepFormula::Heun { w.d1 } else { w.d1_midpoint } / r(0);
                terms.push((w.d0 + of_difference, memory.prediction(0)));
                terms.push((-of_difference, memory.prediction(1)));
            }
            _ => {
                let weights = third_order(w, r(0), r(1));
                terms.extend(weights.into_iter().enumerate().map(|(age, weight)| (weight, memory.prediction(age))));
            }
        }
        if self.network.algorithm.is_stochastic() {
            terms.push((w.noise, required_noise(&input)?));
        }
        Ok(StepOutput { x: combine(&terms)?, x0 })
    }
}

/// The weights of the three newest predictions, with distances `r0` and `r1`.
///
/// Reference quirk: here D2 is half of the second derivative, as in the authors' code, while the weight `d2` is for all of it. This
/// gives order 2 with a smaller error, not order 3. Kept for parity.
fn third_order(w: Weights, r0: f64, r1: f64) -> [f64; 3] {
    // D1 and D2 from the slopes s0 = (m0 − m1)/r0 and s1 = (m1 − m2)/r1.
    let of_s0 = w.d1 * (1.0 + r0 / (r0 + r1)) + w.d2 / (r0 + r1);
    let of_s1 = -w.d1 * r0 / (r0 + r1) - w.d2 / (r0 + r1);
    [w.d0 + of_s0 / r0, of_s1 / r1 - of_s0 / r0, -of_s1 / r1]
}

/// Computes from the network's output the quantity that DPM-Solver interpolates.
#[derive(Debug)]
pub(super) struct DpmNetwork {
    pub(super) algorithm: DpmAlgorithm,
    prediction: PredictionType,
    limit: Limit,
}

impl DpmNetwork {
    pub(super) fn new(config: &SolverConfig) -> Self {
        Self { algorithm: config.algorithm, prediction: config.prediction, limit: Limit::new(config) }
    }

    /// The interpolated quantity (x0 or ε), and x0.
    pub(super) fn interpolated(&self, input: &StepInput<'_>, sigma: f64) -> Result<(Tensor, Tensor)> {
        let at = Factors::of_sigma(sigma);
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0(self.prediction, &prediction, input.x, at)?)?;
        if self.algorithm.interpolates_x0() {
            return Ok((x0.clone(), x0));
        }
        let epsilon = match self.limit {
            Limit::Off => epsilon(self.prediction, &prediction, input.x, at)?,
            _ => epsilon_of_x0(&x0, input.x, at)?,
        };
        Ok((epsilon, x0))
    }
}
