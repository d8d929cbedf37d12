//! PNDM (Liu et al. 2022): linear multistep on ε over original timesteps with a fixed stride, after Runge–Kutta steps or an
//! improved Euler step.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::levels::Levels;
use super::prediction::{Factors, Limit, combine, epsilon, limited, split_channels};
use super::{SavedState, Solver, SolverConfig, StepInput, StepOutput, out_of_order, spacing};
use crate::diffusion::PredictionType;
use crate::{Error, Result};

/// The number of predictions in the multistep formula.
const ORDER: usize = 4;

/// Order 4 in the middle of a run. With Runge–Kutta steps: 4 predictions for each of the first 3 steps; without them: 2 for the
/// first step.
#[derive(Debug)]
pub(super) struct Pndm {
    timesteps: Vec<f64>,
    /// The number of calls that belong to Runge–Kutta steps.
    runge_kutta_calls: usize,
    alphas_cumprod: Vec<f64>,
    /// ᾱ after the last step.
    final_alpha_cumprod: f64,
    /// The length of every step, even if the spacing visits timesteps at other distances: a quirk of diffusers.
    stride: i64,
    prediction: PredictionType,
    limit: Limit,
    /// Newest first.
    earlier: VecDeque<Tensor>,
    /// The weighted slopes of the Runge–Kutta step so far.
    slope: Option<Tensor>,
    /// x at the start of the step.
    start: Option<Tensor>,
    next_call: usize,
}

impl Pndm {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let visited = spacing::timesteps(config, steps, true)?;
        let stride = config.num_train_timesteps / steps;
        // The three Runge–Kutta steps lead to the fourth timestep, so shorter runs cannot have them.
        let (timesteps, runge_kutta_calls) = if config.skip_prk_steps || steps < ORDER {
            let mut timesteps = visited.clone();
            if let Some(&second) = visited.get(1) {
                timesteps.insert(1, second);
            }
            (timesteps, 0)
        } else {
            let half = (stride / 2) as f64;
            let mut timesteps = Vec::new();
            for pair in visited[..ORDER].windows(2) {
                timesteps.extend([pair[0], pair[1] + half, pair[1] + half, pair[1]]);
            }
            let calls = timesteps.len();
            timesteps.extend_from_slice(&visited[ORDER - 1..]);
            (timesteps, calls)
        };
        Ok(Self {
            timesteps,
            runge_kutta_calls,
            final_alpha_cumprod: if config.set_alpha_to_one { 1.0 } else { levels.alphas_cumprod[0] },
            alphas_cumprod: levels.alphas_cumprod.clone(),
            stride: stride as i64,
            prediction: config.prediction,
            limit: Limit::new(config),
            earlier: VecDeque::new(),
            slope: None,
            start: None,
            next_call: 0,
        })
    }

    fn alpha_cumprod(&self, timestep: i64) -> Result<f64> {
        let Ok(index) = usize::try_from(timestep) else { return Ok(self.final_alpha_cumprod) };
        self.alphas_cumprod.get(index).copied().ok_or_else(|| {
            let last = self.alphas_cumprod.len() - 1;
            Error::config("timestep_spacing", format!("a step would begin at timestep {timestep}, expected at most {last}"))
        })
    }

    /// x at timestep `to` from x at `from` and the mean slope between them (Liu et al. 2022, equation 11).
    fn transfer(&self, x: &Tensor, slope: &Tensor, from: i64, to: i64) -> Result<Tensor> {
        let (alpha, next) = (self.alpha_cumprod(from)?, self.alpha_cumprod(to)?);
        let denominator = alpha * (1.0 - next).sqrt() + (alpha * (1.0 - alpha) * next).sqrt();
        let (mut of_x, mut of_slope) = ((next / alpha).sqrt(), -(next - alpha) / denominator);
        if self.prediction == PredictionType::Velocity {
            // Slopes are sums of velocities; they are converted to ε here, at the start of the step.
            of_x += of_slope * (1.0 - alpha).sqrt();
            of_slope *= alpha.sqrt();
        }
        combine(&[(of_x, x), (of_slope, slope)])
    }

    /// A call of a Runge–Kutta step: two slopes at its middle and one at its end.
    fn runge_kutta(&mut self, call: usize, timestep: i64, x: &Tensor, slope: &Tensor) -> Result<Tensor> {
        let phase = call % 4;
        if phase == 0 {
            self.earlier.push_front(slope.clone());
            self.start = Some(x.clone());
            self.slope = None;
        }
        let weight = if matches!(phase, 0 | 3) { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let sum = match &self.slope {
            None => combine(&[(weight, slope)])?,
            Some(sum) => combine(&[(1.0, sum), (weight, slope)])?,
        };
        let from = self.timesteps[call - phase] as i64;
        let to = timestep - if phase.is_multiple_of(2) { self.stride / 2 } else { 0 };
        let start = self.start.as_ref().ok_or_else(|| out_of_order(call))?;
        let next = self.transfer(start, if phase == 3 { &sum } else { slope }, from, to)?;
        self.slope = Some(sum);
        Ok(next)
    }

    /// A multistep call.
    fn multistep(&mut self, call: usize, timestep: i64, x: &Tensor, slope: Tensor) -> Result<Tensor> {
        if self.runge_kutta_calls == 0 && call == 1 {
            // The first step again, with the mean of the slopes at its two ends.
            let start = self.start.take().ok_or_else(|| out_of_order(call))?;
            let first = self.earlier.front().ok_or_else(|| out_of_order(call))?;
            let mean = combine(&[(0.5, &slope), (0.5, first)])?;
            return self.transfer(&start, &mean, timestep + self.stride, timestep);
        }
        self.earlier.truncate(ORDER - 1);
        self.earlier.push_front(slope);
        if call == 0 {
            self.start = Some(x.clone());
        }
        // Adams–Bashforth of the order that the number of earlier slopes allows.
        let weights: &[f64] = match self.earlier.len() {
            1 => &[1.0],
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let terms: Vec<(f64, &Tensor)> = weights.iter().copied().zip(&self.earlier).collect();
        let mean = combine(&terms)?;
        self.transfer(x, &mean, timestep, timestep - self.stride)
    }
}

impl Solver for Pndm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn save(&self) -> Result<SavedState> {
        let mut state = SavedState::default();
        state.set_number("next_call", self.next_call);
        state.set_number("earlier", self.earlier.len());
        for (age, slope) in self.earlier.iter().enumerate() {
            state.set(format!("earlier.{age}"), slope);
        }
        state.set_optional("slope", self.slope.as_ref());
        state.set_optional("start", self.start.as_ref());
        Ok(state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<()> {
        let earlier = (0..state.number("earlier")?).map(|age| Ok(state.tensor(&format!("earlier.{age}"))?.clone()));
        self.earlier = earlier.collect::<Result<_>>()?;
        self.next_call = state.number("next_call")?;
        self.slope = state.get("slope").cloned();
        self.start = state.get("start").cloned();
        Ok(())
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<StepOutput> {
        let timestep = input.timestep_of(&self.timesteps)? as i64;
        if input.call == 0 {
            self.earlier.clear();
        } else if input.call != self.next_call {
            return Err(out_of_order(input.call));
        }
        self.next_call = input.call + 1;

        let (prediction, _variance) = split_channels(input.prediction, input.x)?;
        let at = Factors::of_alpha_cumprod(self.alpha_cumprod(timestep)?);
        let (prediction, x0) = limited(self.prediction, prediction, input.x, at, self.limit)?;
        let slope = match self.prediction {
            PredictionType::Epsilon | PredictionType::Velocity => prediction,
            PredictionType::X0 => epsilon(self.prediction, &prediction, input.x, at)?,
        };
        let x = if input.call < self.runge_kutta_calls {
            self.runge_kutta(input.call, timestep, input.x, &slope)?
        } else {
            self.multistep(input.call, timestep, input.x, slope)?
        };
        Ok(StepOutput { x, x0 })
    }
}
