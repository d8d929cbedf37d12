//! Kind `scheduler`.

use std::path::Path;

use candle_core::Tensor;
use golden::{Case, Check};
use latte_model::diffusion::Denoiser;
use latte_model::sampling::{SolverConfig, sample};
use latte_ops::CancelToken;
use serde_json::Value;

use super::tensors::{Recorded, Result, tensor, values};

const TOLERANCE: f64 = 1e-4;
const TOY_MODEL: &str = "eps = 0.2*x_scaled + 0.1*cos(t/250)";
const NOISE_ORDER: &str = "step_noise[k] is the k-th draw";

/// The network of [`TOY_MODEL`].
struct ToyModel;

impl Denoiser for ToyModel {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        Ok(x.affine(0.2, 0.1 * (timesteps.first().copied().unwrap_or_default() / 250.0).cos())?)
    }
}

/// Mean and standard deviation (of a sample: n − 1) of all values.
fn moments(x: &Tensor) -> candle_core::Result<(f64, f64)> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok((mean, variance.sqrt()))
}

fn solver_config(case: &Case) -> Result<SolverConfig> {
    for (key, expected) in [("toy_model", TOY_MODEL), ("noise_order", NOISE_ORDER)] {
        if case.config.get(key).and_then(Value::as_str) != Some(expected) {
            return Err(format!("{key}: expected `{expected}`, got {:?}", case.config.get(key)).into());
        }
    }
    let mut file = case.config.get("config").and_then(Value::as_object).ok_or("config: expected an object")?.clone();
    file.insert("_class_name".into(), case.config.get("class_name").ok_or("class_name: expected a name")?.clone());
    let mut config = SolverConfig::from_json(&Value::Object(file).to_string())?;
    if let Some(eta) = case.config.get("eta") {
        config.eta = eta.as_f64().ok_or("eta: expected a number")?;
    }
    Ok(config)
}

pub(crate) fn scheduler(path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let steps = case.config.get("steps").and_then(Value::as_u64).ok_or("steps: expected a number")?;
    let mut solver = solver_config(&case)?.solver(steps.try_into()?)?;
    let (timesteps, sigmas) = (solver.timesteps().to_vec(), solver.sigmas());
    let init_noise_sigma = solver.init_noise_sigma();

    let mut noise = Recorded::new(case.tensor("in.step_noise")?)?;
    let (mut means, mut deviations, mut second) = (Vec::new(), Vec::new(), None);
    let mut failure = None;
    let end =
        sample(&mut *solver, &ToyModel, &tensor(case.tensor("in.x_T")?)?, &mut noise, &CancelToken::new(), &mut |report| {
            match moments(&report.x) {
                Ok((mean, deviation)) => {
                    means.push(mean);
                    deviations.push(deviation);
                }
                Err(e) => failure = Some(e),
            }
            if report.done == 2 {
                second = Some(report.x.clone());
            }
        })?;
    failure.map_or(Ok(()), Err)?;
    let end = end.finished();
    let flat = |x: Option<Tensor>| -> Result<Vec<f64>> {
        let x = x.ok_or("the run ended before it")?;
        Ok(values(&x)?.into_iter().map(f64::from).collect())
    };

    let mut checks = Vec::new();
    for (name, theirs) in case.with_prefix("out.") {
        let ours = match name {
            "timesteps" => timesteps.clone(),
            "sigmas" => sigmas.clone().ok_or("the method has no sigmas here")?,
            "init_noise_sigma" => vec![init_noise_sigma],
            "trajectory_mean" => means.clone(),
            "trajectory_std" => deviations.clone(),
            "second" => flat(second.clone())?,
            "final" => flat(end.clone())?,
            other => return Err(format!("out.{other}: there is no such quantity here").into()),
        };
        checks.push(Check::new(name, &ours, theirs, TOLERANCE));
    }
    Ok(checks)
}
