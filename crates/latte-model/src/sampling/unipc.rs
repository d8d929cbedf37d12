//! UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that uses the next prediction before the next step uses it.

use candle_core::Tensor;

use super::levels::Levels;
use super::multistep::{Memory, MultistepGrid};
use super::prediction::{Factors, Limit, combine, epsilon, epsilon_of_x0, split_channels, x0};
use super::{SavedState, Solver, SolverConfig, StepFormula, StepInput, StepOutput, out_of_order};
use crate::diffusion::PredictionType;
use crate::{Error, Result};

/// The predictor has orders 1 to 3; the corrector adds one. One prediction per step.
#[derive(Debug)]
pub(super) struct Unipc {
    grid: MultistepGrid,
    prediction: PredictionType,
    limit: Limit,
    /// Whether x0 is interpolated; otherwise ε.
    predict_x0: bool,
    /// B(h) = h, else eʰ − 1.
    is_bh1: bool,
    order: usize,
    lower_order_final: bool,
    /// The steps that are not corrected.
    disable_corrector: Vec<usize>,
    memory: Memory,
    /// x at the start of the last step, and its order.
    last: Option<(Tensor, usize)>,
}

impl Unipc {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        Ok(Self {
            grid: MultistepGrid::new(config, levels, steps)?,
            prediction: config.prediction,
            limit: Limit::new(config),
            predict_x0: config.predict_x0,
            is_bh1: config.formula == StepFormula::Bh1,
            order: config.order,
            lower_order_final: config.lower_order_final,
            disable_corrector: config.disable_corrector.clone(),
            memory: Memory::default(),
            last: None,
        })
    }

    fn order_at(&self, call: usize) -> usize {
        if self.grid.ends_clean(call) {
            return 1;
        }
        let left = if self.lower_order_final { self.grid.timesteps.len() - call } else { usize::MAX };
        self.order.min(left).min(self.memory.len())
    }

    /// x at `to`, from x at the newest remembered σ; corrected if the prediction at `to` is given.
    fn update(&self, x: &Tensor, to: f64, order: usize, at_end: Option<&Tensor>) -> Result<Tensor> {
        let memory = &self.memory;
        let from = memory.sigma(0);
        let (s, t) = (Factors::of_sigma(from), Factors::of_sigma(to));
        let h = from.ln() - to.ln();
        // Distances of the interpolated differences, in units of h.
        let mut nodes: Vec<f64> = (1..order).map(|age| (memory.lambda(age) - memory.lambda(0)) / h).collect();
        nodes.extend(at_end.map(|_| 1.0));
        let (of_x, scale, hh) =
            if self.predict_x0 { (t.sigma / s.sigma, -t.alpha, -h) } else { (t.alpha / s.alpha, -t.sigma, h) };
        let weights = self.difference_weights(&nodes, hh);

        let mut of_newest = scale * hh.exp_m1();
        let mut terms = vec![(of_x, x)];
        for (i, (weight, node)) in weights.iter().zip(&nodes).enumerate() {
            let of_difference = scale * weight / node;
            let end = if i + 1 < order { memory.prediction(i + 1) } else { at_end.unwrap_or(x) };
            terms.push((of_difference, end));
            of_newest -= of_difference;
        }
        terms.push((of_newest, memory.prediction(0)));
        combine(&terms)
    }

    /// The weights of the differences (mᵢ − m0)/rᵢ at the nodes rᵢ, such that the step is exact for polynomials in λ
    /// (equation 9 of the paper), times B(h).
    fn difference_weights(&self, nodes: &[f64], hh: f64) -> Vec<f64> {
        if nodes.is_empty() {
            return Vec::new();
        }
        // With one difference any weight that tends to ½ keeps the order; ½ is used.
        if nodes.len() == 1 {
            return vec![0.5 * if self.is_bh1 { hh } else { hh.exp_m1() }];
        }
        let mut phi = hh.exp_m1() / hh - 1.0;
        let mut factorial = 1.0;
        let mut moments = Vec::with_capacity(nodes.len());
        for i in 0..nodes.len() {
            moments.push(phi * factorial);
            factorial *= (i + 2) as f64;
            phi = phi / hh - 1.0 / factorial;
        }
        let rows = (0..nodes.len()).map(|power| nodes.iter().map(|r| r.powi(power as i32)).collect()).collect();
        solve_linear(rows, moments)
    }
}

impl Solver for Unipc {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn sigmas(&self) -> Option<Vec<f64>> {
        Some(self.grid.sigmas.clone())
    }

    fn save(&self) -> Result<SavedState> {
        let mut state = self.memory.save()?;
        if let Some((start, order)) = &self.last {
            state.set("start", start);
            state.set_number("order", *order);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        self.memory = Memory::restored(state)?;
        self.last = state.get("start").map(|start| Ok::<_, Error>((start.clone(), state.number("order")?))).transpose()?;
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let (here, to) = self.grid.begin(&input, &mut self.memory)?;
        let at = Factors::of_sigma(here);
        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let x0 = self.limit.apply(x0(self.prediction, &prediction, input.x, at)?)?;
        let interpolated = match self.limit {
            _ if self.predict_x0 => x0.clone(),
            Limit::Clip(_) => epsilon_of_x0(&x0, input.x, at)?,
            // As in diffusers, thresholding does not affect ε.
            Limit::Off | Limit::Threshold { .. } => epsilon(self.prediction, &prediction, input.x, at)?,
        };

        let mut x = input.x.clone();
        if input.call > 0 && !self.disable_corrector.contains(&(input.call - 1)) {
            let (start, order) = self.last.take().ok_or_else(|| out_of_order(input.call))?;
            // A step of length 0 needs no correction, and distances relative to it are not defined.
            if self.memory.sigma(0) != here {
                x = self.update(&start, here, order, Some(&interpolated))?;
            }
        }
        self.memory.push(here, interpolated, self.order);
        let order = self.order_at(input.call);
        self.last = Some((x.clone(), order));
        if to != here {
            x = self.update(&x, to, order, None)?;
        }
        Ok(StepOutput { x, x0 })
    }
}

/// Solves a small square system by elimination with partial pivoting.
fn solve_linear(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for column in 0..n {
        let largest = (column..n).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs())).unwrap_or(column);
        rows.swap(column, largest);
        right.swap(column, largest);
        let pivot = rows[column].clone();
        for row in column + 1..n {
            let factor = rows[row][column] / pivot[column];
            for (value, above) in rows[row].iter_mut().zip(&pivot) {
                *value -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    for column in (0..n).rev() {
        let known: f64 = (column + 1..n).map(|k| rows[column][k] * right[k]).sum();
        right[column] = (right[column] - known) / rows[column][column];
    }
    right
}
