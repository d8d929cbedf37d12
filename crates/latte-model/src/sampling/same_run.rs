//! Checks whether two configurations give the same run.

use candle_core::{Device, Tensor};

use super::prediction::Limit;
use super::{SolverConfig, StepInput};
use crate::Result;

impl SolverConfig {
    /// Whether runs of `steps` steps with these two configurations are the same for any network: both are tried with a small
    /// network that depends on all its inputs. Configurations that cannot run differ from every other one.
    pub(super) fn runs_as(&self, other: &Self, steps: usize) -> bool {
        // The small network's values may stay within limits that those of a real network exceed.
        let limit = |config: &Self| match Limit::new(config) {
            // With a largest bound of 1 the bound is always 1, for any quantile.
            Limit::Threshold { largest, .. } if largest <= 1.0 => Limit::Threshold { ratio: 0.0, largest },
            other => other,
        };
        if limit(self) != limit(other) {
            return false;
        }
        match (trajectory(self, steps), trajectory(other, steps)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
    }
}

/// All inputs and outputs of a small network in a run that starts from two values.
fn trajectory(config: &SolverConfig, steps: usize) -> Result<Vec<f64>> {
    let mut solver = config.solver(steps)?;
    let calls = solver.timesteps().len();
    let mut seen = vec![solver.init_noise_sigma(), calls as f64];
    seen.extend(solver.sigmas().into_iter().flatten());
    let mut x = (values([0.7, -1.3])? * solver.init_noise_sigma())?; // [b, f, c, h, w]
    for call in 0..calls {
        let (timestep, scale) = (solver.timesteps()[call], solver.input_scale(call));
        let prediction = toy_prediction(&(&x * scale)?, timestep)?;
        let phase = call as f64;
        let noise = solver.draws_noise(call).then(|| values([phase.sin(), phase.cos()])).transpose()?;
        let output = solver.step(StepInput { prediction: &prediction, call, x: &x, noise: noise.as_ref() })?;
        x = output.x;
        seen.extend([timestep, scale]);
        seen.extend(x.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(seen)
}

fn values(values: [f64; 2]) -> Result<Tensor> {
    Ok(Tensor::from_slice(&values, (1, 1, 1, 1, 2), &Device::Cpu)?)
}

/// A nonlinear prediction, with variance values after it.
fn toy_prediction(x: &Tensor, timestep: f64) -> Result<Tensor> {
    let bent = ((x * 1.7)?.sin()? * 0.4)?;
    let prediction = ((x * 0.3)? + bent)?.affine(1.0, 0.1 * (timestep / 150.0).cos())?;
    Ok(Tensor::cat(&[&prediction, &x.tanh()?], 2)?)
}
