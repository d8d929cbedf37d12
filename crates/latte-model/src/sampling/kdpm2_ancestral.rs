//! DPM-Solver-2 in σ (Lu et al. 2022; Karras et al. 2022) with ancestral noise.

use candle_core::Tensor;

use super::levels::Levels;
use super::prediction::{Limit, combine, split_channels, x0_in_sigma};
use super::sigma_grid::{SigmaGrid, ancestral, input_scale};
use super::{SavedState, Solver, SolverConfig, StepInput, StepOutput, out_of_order, required_noise};
use crate::Result;
use crate::diffusion::PredictionType;

/// One step's noise levels.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: f64,
    /// The geometric mean of `from` and `down`, where the second slope is computed; 0 in the last step, which has no second slope.
    middle: f64,
    down: f64,
    up: f64,
}

/// Order 2 except for its noise: a step to the middle, a second slope there, the whole step with that slope, then noise. The last
/// step, to clean data, is an Euler step. Two predictions per step, except for the last.
#[derive(Debug)]
pub(super) struct Kdpm2Ancestral {
    steps: Vec<Step>,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    prediction: PredictionType,
    limit: Limit,
    /// x at the start of the step.
    start: Option<Tensor>,
}

impl Kdpm2Ancestral {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let grid = SigmaGrid::new(config, levels, steps)?;
        let last = grid.timesteps.len() - 1;
        let step = |i: usize| {
            let (from, to) = (grid.sigmas[i], grid.sigmas[i + 1]);
            let (up, down) = ancestral(from, to);
            Step { from, middle: if i == last { 0.0 } else { (from * down).sqrt() }, down, up }
        };
        let steps: Vec<Step> = (0..=last).map(step).collect();
        let mut timesteps = vec![grid.timesteps[0]];
        for i in 1..=last {
            timesteps.extend([levels.timestep_of(steps[i - 1].middle), grid.timesteps[i]]);
        }
        Ok(Self {
            steps,
            timesteps,
            init_noise_sigma: grid.init_noise_sigma,
            prediction: config.prediction,
            limit: Limit::new(config),
            start: None,
        })
    }
}

impl Solver for Kdpm2Ancestral {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// In diffusers' form: each twice except for the first, and three zeros at the end.
    fn sigmas(&self) -> Option<Vec<f64>> {
        let mut sigmas: Vec<f64> = self.steps.iter().flat_map(|step| [step.from; 2]).skip(1).collect();
        sigmas.extend([0.0; 3]);
        Some(sigmas)
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn input_scale(&self, call: usize) -> f64 {
        let sigma = |step: &Step| if call.is_multiple_of(2) { step.from } else { step.middle };
        self.steps.get(call / 2).map_or(1.0, |step| input_scale(sigma(step)))
    }

    fn draws_noise(&self, call: usize) -> bool {
        !call.is_multiple_of(2)
    }

    fn save(&self) -> Result<SavedState> {
        let mut state = SavedState::default();
        state.set_optional("start", self.start.as_ref());
        Ok(state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        self.start = state.get("start").cloned();
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        input.timestep_of(&self.timesteps)?;
        let Step { from, middle, down, up } = self.steps[input.call / 2];
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        if input.call.is_multiple_of(2) {
            let x0 = self.limit.apply(x0_in_sigma(self.prediction, &prediction, input.x, from)?)?;
            let x = combine(&[(middle / from, input.x), (1.0 - middle / from, &x0)])?;
            self.start = Some(input.x.clone());
            return Ok(StepOutput { x, x0 });
        }
        let start = self.start.take().ok_or_else(|| out_of_order(input.call))?;
        let x0 = self.limit.apply(x0_in_sigma(self.prediction, &prediction, input.x, middle)?)?;
        let way = (down - from) / middle;
        let x = combine(&[(1.0, &start), (way, input.x), (-way, &x0), (up, required_noise(&input)?)])?;
        Ok(StepOutput { x, x0 })
    }
}
