//! DEIS (Zhang & Chen 2023), log-ρ multistep: ε is interpolated as a polynomial in log ρ, ρ = σ, and integrated over ρ.

use super::levels::Levels;
use super::multistep::{Memory, MultistepGrid};
use super::prediction::{Factors, Limit, combine, epsilon_of_x0, split_channels, x0};
use super::{SavedState, Solver, SolverConfig, StepInput, StepOutput};
use crate::Result;
use crate::diffusion::PredictionType;

/// Orders 1 to 3 with one prediction per step. The run ends at the smallest noise level, not at clean data.
#[derive(Debug)]
pub(super) struct Deis {
    grid: MultistepGrid,
    prediction: PredictionType,
    limit: Limit,
    order: usize,
    lower_order_final: bool,
    memory: Memory,
}

impl Deis {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        Ok(Self {
            grid: MultistepGrid::new(config, levels, steps)?,
            prediction: config.prediction,
            limit: Limit::new(config),
            order: config.order,
            lower_order_final: config.lower_order_final,
            memory: Memory::default(),
        })
    }
}

impl Solver for Deis {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn sigmas(&self) -> Option<Vec<f64>> {
        Some(self.grid.sigmas.clone())
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
        let at = Factors::of_sigma(from);
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0(self.prediction, &prediction, input.x, at)?)?;
        self.memory.push(from, epsilon_of_x0(&x0, input.x, at)?, self.order);

        let order = self.grid.order_at(input.call, self.order, self.lower_order_final).min(self.memory.len());
        let memory = &self.memory;
        let logs: Vec<f64> = (0..order).map(|age| memory.sigma(age).ln()).collect();
        let alpha = Factors::of_sigma(to).alpha;
        // x/α' = x/α + Σ cᵢ εᵢ
        let mut terms = vec![(alpha / at.alpha, input.x)];
        for age in 0..order {
            terms.push((alpha * integral(&logs, age, from, to), memory.prediction(age)));
        }
        Ok(StepOutput { x: combine(&terms)?, x0 })
    }
}

/// ∫ over ρ from `from` to `to` of the Lagrange polynomial in log ρ that is 1 at `logs[one]` and 0 at the others.
fn integral(logs: &[f64], one: usize, from: f64, to: f64) -> f64 {
    let others: Vec<f64> = logs.iter().enumerate().filter(|(i, _)| *i != one).map(|(_, &log)| log).collect();
    let denominator: f64 = others.iter().map(|log| logs[one] - log).product();
    let antiderivative = |rho: f64| {
        let l = rho.ln();
        rho * match others[..] {
            [] => 1.0,
            [a] => l - 1.0 - a,
            [a, b, ..] => l * l - 2.0 * l + 2.0 - (a + b) * (l - 1.0) + a * b,
        }
    };
    (antiderivative(to) - antiderivative(from)) / denominator
}
