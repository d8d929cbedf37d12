//! Whether two configurations do the same.

use candle_core::{Device, Tensor};

use super::prediction::Limit;
use super::{SolverConfig, StepInput};
use crate::Result;

impl SolverConfig {
    /// Whether runs of `steps` steps with these two configurations are the same, whatever the network: both are tried on a small
    /// network that depends on everything that it gets. Configurations that cannot run are not the same as any.
    pub(super) fn runs_as(&self, other: &Self, steps: usize) -> bool {
        // The small network's values may stay within bounds that a real one's leave.
        let limit = |config: &Self| match Limit::new(config) {
            // The bound is between 1 and the largest one, so whatever the quantile is.
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

/// Everything that a run with a small network tells it and makes of it, from a start of two values.
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

/// A prediction that is no line, with variance values behind it.
fn toy_prediction(x: &Tensor, timestep: f64) -> Result<Tensor> {
    let bent = ((x * 1.7)?.sin()? * 0.4)?;
    let prediction = ((x * 0.3)? + bent)?.affine(1.0, 0.1 * (timestep / 150.0).cos())?;
    Ok(Tensor::cat(&[&prediction, &x.tanh()?], 2)?)
}
