//! Euler's method in σ (Karras et al. 2022, algorithm 1), with or without ancestral noise.

use super::levels::Levels;
use super::prediction::{Limit, combine, split_channels, x0_in_sigma};
use super::sigma_grid::{SigmaGrid, ancestral, input_scale};
use super::{Sampler, Solver, SolverConfig, StepInput, StepOutput, required_noise};
use crate::Result;
use crate::diffusion::PredictionType;

/// Order 1. With ancestral noise each step goes to a lower σ and adds noise up to the next σ.
#[derive(Debug)]
pub(super) struct Euler {
    grid: SigmaGrid,
    prediction: PredictionType,
    limit: Limit,
    ancestral: bool,
}

impl Euler {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let grid = SigmaGrid::new(config, levels, steps)?;
        let ancestral = config.kind == Sampler::EulerAncestral;
        Ok(Self { grid, prediction: config.prediction, limit: Limit::new(config), ancestral })
    }
}

impl Solver for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn sigmas(&self) -> Option<Vec<f64>> {
        Some(self.grid.sigmas.clone())
    }

    fn init_noise_sigma(&self) -> f64 {
        self.grid.init_noise_sigma
    }

    fn input_scale(&self, call: usize) -> f64 {
        self.grid.sigmas.get(call).map_or(1.0, |&sigma| input_scale(sigma))
    }

    fn draws_noise(&self, _call: usize) -> bool {
        self.ancestral
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        input.timestep_of(&self.grid.timesteps)?;
        let (from, to) = (self.grid.sigmas[input.call], self.grid.sigmas[input.call + 1]);
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0_in_sigma(self.prediction, &prediction, input.x, from)?)?;
        let (up, down) = if self.ancestral { ancestral(from, to) } else { (0.0, to) };
        // x + (x − x0)/σ · (σ' − σ)
        let mut x = combine(&[(down / from, input.x), (1.0 - down / from, &x0)])?;
        if self.ancestral {
            x = combine(&[(1.0, &x), (up, required_noise(&input)?)])?;
        }
        Ok(StepOutput { x, x0 })
    }
}
