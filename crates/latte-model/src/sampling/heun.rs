//! Heun's method in σ (Karras et al. 2022, algorithm 1).

use candle_core::Tensor;

use super::levels::Levels;
use super::prediction::{Limit, combine, split_channels, x0_in_sigma};
use super::sigma_grid::{SigmaGrid, input_scale};
use super::{SavedState, Solver, SolverConfig, StepInput, StepOutput, out_of_order};
use crate::diffusion::PredictionType;
use crate::{Error, Result};

/// Order 2: an Euler step, a second slope at its end, and the step again with the mean of both slopes. The last step, to clean
/// data, is an Euler step. Two predictions per step, except for the last.
#[derive(Debug)]
pub(super) struct Heun {
    sigmas: Vec<f64>,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    prediction: PredictionType,
    limit: Limit,
    /// x at the start of the step, and its first slope.
    begun: Option<(Tensor, Tensor)>,
}

impl Heun {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let grid = SigmaGrid::new(config, levels, steps)?;
        // Call 2k is at σₖ, call 2k+1 at σₖ₊₁.
        let timesteps = (0..2 * grid.timesteps.len() - 1).map(|call| grid.timesteps[call.div_ceil(2)]).collect();
        Ok(Self {
            timesteps,
            sigmas: grid.sigmas,
            init_noise_sigma: grid.init_noise_sigma,
            prediction: config.prediction,
            limit: Limit::new(config),
            begun: None,
        })
    }
}

impl Solver for Heun {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<Vec<f64>> {
        Some((0..=self.timesteps.len()).map(|call| self.sigmas[call.div_ceil(2)]).collect())
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn input_scale(&self, call: usize) -> f64 {
        self.sigmas.get(call.div_ceil(2)).map_or(1.0, |&sigma| input_scale(sigma))
    }

    fn save(&self) -> Result<SavedState> {
        let mut state = SavedState::default();
        if let Some((start, slope)) = &self.begun {
            state.set("start", start);
            state.set("slope", slope);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        self.begun =
            state.get("start").map(|start| Ok::<_, Error>((start.clone(), state.tensor("slope")?.clone()))).transpose()?;
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        input.timestep_of(&self.timesteps)?;
        let step = input.call / 2;
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        let is_first = input.call.is_multiple_of(2);
        let here = if is_first { from } else { to };
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0_in_sigma(self.prediction, &prediction, input.x, here)?)?;
        let slope = combine(&[(1.0 / here, input.x), (-1.0 / here, &x0)])?;
        if is_first {
            let x = combine(&[(1.0, input.x), (to - from, &slope)])?;
            self.begun = Some((input.x.clone(), slope));
            return Ok(StepOutput { x, x0 });
        }
        let (start, first_slope) = self.begun.take().ok_or_else(|| out_of_order(input.call))?;
        let half = 0.5 * (to - from);
        Ok(StepOutput { x: combine(&[(1.0, &start), (half, &first_slope), (half, &slope)])?, x0 })
    }
}
