//! Kinds `sampler`, `loss`, `respacing` and `torch_rng`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use golden::{Array, Case, Check};
use latte_model::diffusion::{
    Denoiser, Diffusion, DiffusionConfig, LossType, PredictionType, TimestepSpacing, VarianceType, space_timesteps,
};
use latte_model::noise::TorchRng;
use latte_model::sampling::{RespacedDdim, RespacedDdpm, Solver, sample};
use latte_ops::CancelToken;
use serde_json::{Map, Value};

use super::tensors::{Recorded, Result, tensor, values};

const TOLERANCE: f64 = 1e-5;
const TOY_MODEL: &str = "eps = 0.2*x + 0.1*cos(t/250); v = tanh(0.5*x)";

/// The network of [`TOY_MODEL`].
struct ToyModel {
    learn_sigma: bool,
}

impl ToyModel {
    fn new(config: &Map<String, Value>) -> Result<Self> {
        match config.get("toy_model").and_then(Value::as_str) {
            Some(TOY_MODEL) => Ok(Self { learn_sigma: flag(config, "learn_sigma", true)? }),
            other => Err(format!("toy_model: expected `{TOY_MODEL}`, got {other:?}").into()),
        }
    }
}

impl Denoiser for ToyModel {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        let shift: Vec<f32> = timesteps.iter().map(|t| (0.1 * (t / 250.0).cos()) as f32).collect();
        let shift = Tensor::from_vec(shift, (timesteps.len(), 1, 1, 1, 1), x.device())?;
        let epsilon = (x * 0.2)?.broadcast_add(&shift)?;
        if !self.learn_sigma {
            return Ok(epsilon);
        }
        Ok(Tensor::cat(&[epsilon, (x * 0.5)?.tanh()?], 2)?) // [b, f, 2c, h, w]
    }
}

fn flag(config: &Map<String, Value>, key: &str, default: bool) -> Result<bool> {
    config.get(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| format!("{key}: expected true or false, got {v}").into()))
}

/// The configuration that the official `create_diffusion` builds from these settings.
fn diffusion_config(config: &Map<String, Value>) -> Result<DiffusionConfig> {
    let noise_schedule = config.get("noise_schedule").cloned().unwrap_or_else(|| "linear".into());
    let loss = if flag(config, "use_kl", false)? {
        LossType::RescaledKl
    } else if flag(config, "rescale_learned_sigmas", false)? {
        LossType::RescaledMse
    } else {
        LossType::Mse
    };
    let learn_sigma = flag(config, "learn_sigma", true)?;
    Ok(DiffusionConfig {
        num_timesteps: 1000,
        noise_schedule: serde_json::from_value(noise_schedule).map_err(|e| format!("noise_schedule: {e}"))?,
        prediction: if flag(config, "predict_xstart", false)? { PredictionType::X0 } else { PredictionType::Epsilon },
        variance: if learn_sigma { VarianceType::LearnedRange } else { VarianceType::FixedLarge },
        loss,
    })
}

/// Compares every `out.*` of the file; one that `ours` lacks is an error.
fn compare(case: &Case, ours: &BTreeMap<&str, Tensor>) -> Result<Vec<Check>> {
    case.with_prefix("out.")
        .map(|(name, array)| {
            let tensor = ours.get(name).ok_or_else(|| format!("out.{name}: there is no such term here"))?;
            Ok(Check::new_f32(name, &values(&tensor.broadcast_as(array.shape.as_slice())?)?, array, TOLERANCE))
        })
        .collect()
}

pub(crate) fn sampler(path: &Path) -> Result<Vec<Check>> {
    let mut case = Case::read(path)?;
    let config = case.config.clone();
    let spacing: TimestepSpacing = match config.get("respacing") {
        None => TimestepSpacing::All,
        Some(Value::String(text)) => text.parse()?,
        Some(other) => return Err(format!("respacing: expected a string, got {other}").into()),
    };
    let eta = config.get("eta").map_or(Some(0.0), Value::as_f64).ok_or("eta: expected a number")?;
    let clip_denoised = flag(&config, "clip_denoised", true)?;
    let diffusion = Diffusion::new(&diffusion_config(&config)?, &spacing)?;
    let mut solver: Box<dyn Solver> = match config.get("sampler").and_then(Value::as_str) {
        Some("ddim") => Box::new(RespacedDdim::new(diffusion.clone(), clip_denoised, eta)?),
        Some("ddpm") => Box::new(RespacedDdpm::new(diffusion.clone(), clip_denoised)),
        other => return Err(format!("sampler: expected ddim or ddpm, got {other:?}").into()),
    };

    let mut checks = Vec::new();
    let map: Vec<f64> = diffusion.timestep_map().iter().map(|&t| t as f64).collect();
    for (name, ours, tolerance) in [("timestep_map", &map[..], 0.0), ("betas", diffusion.schedule().betas(), 1e-12)] {
        if let Some(array) = case.tensors.remove(&format!("out.{name}")) {
            checks.push(Check::new(name, ours, &array, tolerance));
        }
    }
    let mut noise = Recorded::new(case.tensor("in.step_noise")?)?;
    let mut ours = BTreeMap::new();
    let middle = diffusion.num_steps() / 2;
    let x_t = tensor(case.tensor("in.x_T")?)?;
    let end = sample(&mut *solver, &ToyModel::new(&config)?, &x_t, &mut noise, &CancelToken::new(), &mut |report| {
        if report.done == 1 {
            ours.insert("first", report.x.clone());
            ours.insert("first_pred_x0", report.x0.clone());
        }
        if report.done == middle + 1 {
            ours.insert("middle", report.x.clone());
        }
    })?;
    ours.insert("final", end.finished().ok_or("stopped")?);
    checks.extend(compare(&case, &ours)?);
    Ok(checks)
}

pub(crate) fn loss(path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let diffusion = Diffusion::new(&diffusion_config(&case.config)?, &TimestepSpacing::All)?;
    let (x0, noise) = (tensor(case.tensor("in.x0")?)?, tensor(case.tensor("in.noise")?)?);
    let steps: Vec<usize> = case.tensor("in.t")?.values.iter().map(|&t| t as usize).collect();
    let x_t = diffusion.q_sample(&x0, &steps, &noise)?;
    let prediction = ToyModel::new(&case.config)?.predict(&x_t, &diffusion.original_timesteps(&steps)?)?;
    let terms = diffusion.loss(&prediction, &x0, &noise, &x_t, &steps)?;
    let posterior = diffusion.q_posterior(&x0, &x_t, &steps)?;
    let mut ours = BTreeMap::from([
        ("x_t", x_t),
        ("loss", terms.loss),
        ("posterior_mean", posterior.mean),
        ("posterior_log_variance", posterior.log_variance),
    ]);
    for (name, term) in [("mse", terms.mse), ("vb", terms.vb)] {
        match (term, case.tensors.contains_key(&format!("out.{name}"))) {
            (Some(term), true) => drop(ours.insert(name, term)),
            (None, false) => {}
            (ours, theirs) => return Err(format!("{name}: here {}, in the file {theirs}", ours.is_some()).into()),
        }
    }
    compare(&case, &ours)
}

pub(crate) fn respacing(path: &Path) -> Result<Vec<Check>> {
    let cases: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut checks = Vec::new();
    for (spec, expected) in &cases {
        let ours = spec.parse().and_then(|spacing| space_timesteps(1000, &spacing));
        let agree = match expected {
            Value::Array(steps) => {
                let steps: Option<Vec<usize>> = steps.iter().map(|v| v.as_u64().map(|v| v as usize)).collect();
                ours.ok() == Some(steps.ok_or_else(|| format!("\"{spec}\": expected integers"))?)
            }
            // The reference refuses this respacing.
            Value::Null | Value::String(_) | Value::Object(_) => ours.is_err(),
            other => return Err(format!("\"{spec}\": expected a list of timesteps or an error, got {other}").into()),
        };
        checks.push(Check { what: format!("\"{spec}\""), error: if agree { 0.0 } else { f64::INFINITY }, tolerance: 0.0 });
    }
    Ok(checks)
}

pub(crate) fn torch_rng(path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let mut checks = Vec::new();
    // Consecutive draws of one generator, which the name identifies.
    let mut generators: Vec<(u64, TorchRng)> = Vec::new();
    for (name, array) in case.with_prefix("out.") {
        let parts: Vec<&str> = name.split('.').collect();
        let values = match parts[..] {
            ["randn", seed, shape] => {
                let shape = shape.split('x').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
                if shape != array.shape {
                    return Err(format!("{name}: the name says {shape:?}, the tensor is {:?}", array.shape).into());
                }
                draw(&mut TorchRng::new(seed.parse()?), array)?
            }
            ["generator", seed, "first" | "second"] => {
                let seed = seed.parse()?;
                if parts[2] == "first" {
                    generators.push((seed, TorchRng::new(seed)));
                }
                // Names are in alphabetical order: `first` before `second`.
                let (_, rng) = generators
                    .iter_mut()
                    .find(|(s, _)| *s == seed)
                    .ok_or_else(|| format!("{name}: there is no first draw of this generator"))?;
                draw(rng, array)?
            }
            _ => return Err(format!("{name}: neither randn.<seed>.<shape> nor generator.<seed>.first|second").into()),
        };
        let tolerance = if values.len() < 16 { 0.0 } else { 3e-7 };
        checks.push(Check::new_f32(name, &values, array, tolerance));
    }
    Ok(checks)
}

fn draw(rng: &mut TorchRng, like: &Array) -> Result<Vec<f32>> {
    Ok(rng.randn(like.shape.as_slice())?.flatten_all()?.to_vec1()?)
}
