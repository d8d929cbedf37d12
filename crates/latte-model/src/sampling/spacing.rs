//! The visited timesteps and noise levels.

use super::{SigmaSpacing, SolverConfig, beta_quantile};
use crate::diffusion::{TimestepSpacing, linspace};
use crate::{Error, Result};

/// The timesteps of methods that go from the first one to clean data in `steps` steps, descending; integers except for `linspace`
/// without `rounded`.
pub(super) fn timesteps(config: &SolverConfig, steps: usize, rounded: bool) -> Result<Vec<f64>> {
    let n = config.num_train_timesteps;
    let visited = match &config.timestep_spacing {
        TimestepSpacing::Linspace => {
            let round = |t: f64| if rounded { t.round_ties_even() } else { f64::from(t as f32) };
            linspace(0.0, (n - 1) as f64, steps).into_iter().map(round).rev().collect()
        }
        TimestepSpacing::Leading => leading(steps, n / steps, config.steps_offset),
        TimestepSpacing::Trailing => trailing(n as f64, n as f64 / steps as f64, steps),
        counted => return Err(only_respaced(counted)),
    };
    in_range(visited, n)
}

/// The timesteps of multistep methods, descending: `steps + 1` timesteps without the last one. Only the first `last` timesteps of
/// the process are used.
pub(super) fn multistep_timesteps(config: &SolverConfig, steps: usize, last: usize) -> Result<Vec<f64>> {
    let n = config.num_train_timesteps;
    let visited = match &config.timestep_spacing {
        TimestepSpacing::Linspace => {
            let all = linspace(0.0, (last - 1) as f64, steps + 1);
            all.into_iter().skip(1).map(f64::round_ties_even).rev().collect()
        }
        TimestepSpacing::Leading => match last / (steps + 1) {
            // As many steps as timesteps: diffusers would have a stride of 0 here.
            0 => leading(steps, 1, config.steps_offset),
            stride => leading(steps, stride, config.steps_offset + stride),
        },
        TimestepSpacing::Trailing => {
            let stride = n as f64 / steps as f64;
            let count = if last == n { steps } else { (last as f64 / stride).ceil() as usize };
            trailing(last as f64, stride, count)
        }
        counted => return Err(only_respaced(counted)),
    };
    in_range(visited, n)
}

fn only_respaced(spacing: &TimestepSpacing) -> Error {
    let what =
        format!("expected `leading`, `trailing` or `linspace` for this method, got \"{spacing}\", which is for ddim and ddpm");
    Error::config("timestep_spacing", what)
}

fn leading(steps: usize, stride: usize, offset: usize) -> Vec<f64> {
    (0..steps).rev().map(|i| (i * stride) as f64 + offset as f64).collect()
}

fn trailing(start: f64, stride: f64, count: usize) -> Vec<f64> {
    // NumPy's step: the distance of the first two values, with its rounding. If this makes diffusers visit one timestep too many,
    // −1, the number here is still the requested one.
    let step = (start - stride) - start;
    (0..count).map(|i| (start + i as f64 * step).round_ties_even() - 1.0).map(|t| t.max(0.0)).collect()
}

fn in_range(timesteps: Vec<f64>, n: usize) -> Result<Vec<f64>> {
    match timesteps.first() {
        Some(&first) if first > (n - 1) as f64 => Err(Error::config(
            "steps_offset",
            format!("the first timestep would be {first}, expected at most {}: take fewer steps or a smaller offset", n - 1),
        )),
        Some(_) => Ok(timesteps),
        None => Err(Error::config("steps", "no timestep is left to visit: take more steps")),
    }
}

/// `count` noise levels from `max` to `min`; `None` if the timesteps determine them.
pub(super) fn spread(spacing: SigmaSpacing, max: f64, min: f64, count: usize) -> Result<Option<Vec<f64>>> {
    if spacing != SigmaSpacing::Timesteps && min > max {
        return Err(Error::config("sigma_min", format!("expected at most the largest sigma {max}, got {min}")));
    }
    Ok(match spacing {
        SigmaSpacing::Timesteps => None,
        SigmaSpacing::Karras => {
            const RHO: f64 = 7.0;
            let (from, to) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
            let level = |ramp: f64| (from + ramp * (to - from)).powf(RHO);
            Some(linspace(0.0, 1.0, count).into_iter().map(level).collect())
        }
        SigmaSpacing::Exponential | SigmaSpacing::Lu => {
            Some(linspace(max.ln(), min.ln(), count).into_iter().map(f64::exp).collect())
        }
        SigmaSpacing::Beta => {
            let level = |ramp: f64| min + beta_quantile::quantile(1.0 - ramp) * (max - min);
            Some(linspace(0.0, 1.0, count).into_iter().map(level).collect())
        }
    })
}
