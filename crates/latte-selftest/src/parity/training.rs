//! Kind `train`: parity of the trainer's step with the reference: losses, gradient norms, weights and their average.

use std::path::Path;

use candle_core::Device;
use golden::{Case, Check};
use latte_model::diffusion::{Diffusion, DiffusionConfig, TimestepSpacing, VarianceType};
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_ops::Precision;
use latte_train::{ActivationCheckpointing, Labels, MicroBatch, OptimizerConfig, Stepper, TrainState};
use serde_json::Value;

use super::tensors::{Result, parameters, tensor};

/// Typed access to a file's configuration; a key that is missing or of another type is an error.
pub(super) struct Config<'a>(pub(super) &'a Case);

impl Config<'_> {
    fn value(&self, key: &str) -> Result<&Value> {
        self.0.config.get(key).ok_or_else(|| format!("the configuration has no `{key}`").into())
    }

    fn float(&self, key: &str) -> Result<f64> {
        self.value(key)?.as_f64().ok_or_else(|| format!("`{key}` is no number").into())
    }

    pub(super) fn count(&self, key: &str) -> Result<usize> {
        Ok(self.value(key)?.as_u64().ok_or_else(|| format!("`{key}` is no count"))? as usize)
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        self.value(key)?.as_bool().ok_or_else(|| format!("`{key}` is no boolean").into())
    }

    /// One number for both, or a list of two.
    fn pair(&self, key: &str) -> Result<[f64; 2]> {
        let value = self.value(key)?;
        let pair = match (value.as_f64(), value.as_array().map(Vec::as_slice)) {
            (Some(v), _) => Some([v, v]),
            (None, Some([a, b])) => a.as_f64().zip(b.as_f64()).map(|(a, b)| [a, b]),
            _ => None,
        };
        pair.ok_or_else(|| format!("`{key}` is no pair of numbers").into())
    }

    fn model(&self) -> Result<LatteConfig> {
        let condition = match self.count("extras")? {
            1 => Condition::None,
            2 => Condition::Class { num_classes: self.count("num_classes")?, dropout: self.float("class_dropout_prob")? },
            other => return Err(format!("`extras` = {other} is not trained on").into()),
        };
        Ok(LatteConfig {
            input_size: self.pair("input_size")?.map(|v| v as usize),
            num_frames: self.count("num_frames")?,
            in_channels: self.count("in_channels")?,
            patch_size: self.count("patch_size")?,
            hidden_size: self.count("hidden_size")?,
            depth: self.count("depth")?,
            num_heads: self.count("num_heads")?,
            mlp_ratio: self.float("mlp_ratio")?,
            condition,
            learn_sigma: self.flag("learn_sigma")?,
            ..LatteConfig::preset("Latte-S/2")?
        })
    }

    /// The diffusion process, parsed from the words that describe the loss.
    fn diffusion(&self, learn_sigma: bool) -> Result<DiffusionConfig> {
        let words = self.value("loss")?.as_str().ok_or("`loss` is no text")?;
        let mut config = DiffusionConfig { variance: VarianceType::FixedLarge, ..DiffusionConfig::default() };
        let mut variational = false;
        for word in words.split(',').map(str::trim) {
            match word {
                "MSE" | "linear schedule" | "no label dropout" | "fixed large" => {}
                "MSE + variational term" => variational = true,
                "learned range" => config.variance = VarianceType::LearnedRange,
                "fixed small" => config.variance = VarianceType::FixedSmall,
                other => return Err(format!("`loss` says `{other}`, which is not known here").into()),
            }
        }
        if config.variance.is_learned() != learn_sigma || variational != learn_sigma {
            return Err(format!("`loss` = \"{words}\" does not fit learn_sigma = {learn_sigma}").into());
        }
        Ok(config)
    }

    pub(super) fn optimizer(&self) -> Result<OptimizerConfig> {
        let clip = self.value("clip_max_norm")?;
        Ok(OptimizerConfig {
            learning_rate: self.float("lr")?,
            betas: self.pair("betas")?,
            eps: self.float("eps")?,
            weight_decay: self.float("weight_decay")?,
            max_grad_norm: if clip.is_null() { 0.0 } else { self.float("clip_max_norm")? },
            start_clip_iter: 0,
            ema_decay: self.float("ema_decay")?,
            ..OptimizerConfig::default()
        })
    }
}

fn micro_batch(case: &Case, index: usize, labelled: bool) -> Result<MicroBatch<Labels>> {
    let integers =
        |name: &str| -> Result<Vec<usize>> { Ok(case.tensor(name)?.slice(index).values.iter().map(|&v| v as usize).collect()) };
    let of_clips = labelled.then(|| integers("in.y")).transpose()?.map(|labels| labels.into_iter().map(|l| l as u32).collect());
    Ok(MicroBatch {
        latents: tensor(&case.tensor("in.x0")?.slice(index))?, // [b, f, c, h, w]
        noise: tensor(&case.tensor("in.noise")?.slice(index))?,
        timesteps: integers("in.t")?,
        num_images: 0,
        condition: Labels { of_clips, of_images: None },
        loss_weights: None,
    })
}

pub(crate) fn train(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config = Config(&case);
    let model = config.model()?;
    let labelled = matches!(model.condition, Condition::Class { .. });
    let optimizer = config.optimizer()?;
    let stepper = Stepper {
        diffusion: Diffusion::new(&config.diffusion(model.learn_sigma)?, &TimestepSpacing::All)?,
        model: Latte::new(model)?,
        activation_checkpointing: ActivationCheckpointing::None,
        precision: Precision::F32,
    };
    let weights = parameters(&case)?;
    stepper.model.check(&weights)?;
    let mut state = TrainState::new(&weights, &stepper.model.trainable())?.to_device(device)?;

    let (steps, accumulate) = (config.count("steps")?, config.count("accumulate")?);
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let batches: Vec<MicroBatch<Labels>> = (step * accumulate..(step + 1) * accumulate)
            .map(|index| micro_batch(&case, index, labelled))
            .collect::<Result<_>>()?;
        let found = stepper.gradients(&state.weights, &batches)?;
        state.take_step(&found, &optimizer, optimizer.learning_rate)?;
        losses.push(found.loss);
        norms.push(found.grad_norm);
    }

    let mut checks = vec![
        Check::new("losses", &losses, case.tensor("out.losses")?, 1e-5),
        Check::new("grad_norms", &norms, case.tensor("out.grad_norms")?, 1e-4),
    ];
    let shrink = 1.0 - optimizer.learning_rate * optimizer.weight_decay;
    for (prefix, set, ema_decay) in [("out.final.", &state.weights, None), ("out.ema.", &state.ema, Some(optimizer.ema_decay))] {
        let mut worst: Option<Check> = None;
        for (name, reference) in case.with_prefix(prefix) {
            let ours = set.get(name)?.to_host()?.flatten_all()?.to_vec1::<f32>()?;
            let mut check = Check::new_f32(format!("{prefix}{name}"), &ours, reference, 1e-4);
            if name.ends_with("attn.qkv.bias") {
                let first = case.tensor(&format!("param.{name}"))?;
                let keys = KeyBias { shrink, ema_decay, steps, first: &first.values };
                check.error = keys.error_of_the_rest(&ours, &reference.values);
                checks.push(keys.check(
                    format!("{prefix}{name}[keys] distance from exact ÷ reference's"),
                    &ours,
                    &reference.values,
                ));
            }
            if worst.as_ref().is_none_or(|w| check.error > w.error) {
                worst = Some(check);
            }
        }
        // The worst check represents all: they have the same tolerance.
        checks.push(worst.ok_or_else(|| format!("the file has no `{prefix}*`"))?);
    }
    Ok(checks)
}

/// The key third of an attention bias. A constant that is added to all keys changes all scores of a query equally, and softmax
/// ignores it: the exact gradient is 0, and any other gradient is rounding error (about 1e-10, which AdamW turns into steps of a
/// hundredth of the learning rate). So the reference's values are the exact ones, which follow from weight decay and averaging
/// alone, plus noise that cannot be reproduced. The check compares with the exact values: ours may be as far from them as the
/// reference's, within a factor that a real gradient would exceed by far.
struct KeyBias<'a> {
    /// The factor of weight decay on a weight in one step.
    shrink: f64,
    /// For the average; `None` for the raw weights.
    ema_decay: Option<f64>,
    steps: usize,
    /// The whole bias before training: queries, keys, values.
    first: &'a [f64],
}

impl KeyBias<'_> {
    fn keys<'v, T>(&self, values: &'v [T]) -> &'v [T] {
        &values[self.first.len() / 3..self.first.len() / 3 * 2]
    }

    /// The relative error of queries and values.
    fn error_of_the_rest(&self, ours: &[f32], reference: &[f64]) -> f64 {
        let third = self.first.len() / 3;
        let rest = |v: &[f64]| [&v[..third], &v[2 * third..]].concat();
        let ours: Vec<f64> = ours.iter().map(|&v| f64::from(v)).collect();
        golden::relative_error(&rest(&ours), &rest(reference))
    }

    fn exact(&self, first: f64) -> f64 {
        let (mut weight, mut average) = (first, first);
        for _ in 0..self.steps {
            weight *= self.shrink;
            average = self.ema_decay.map_or(weight, |decay| decay * average + (1.0 - decay) * weight);
        }
        average
    }

    fn check(&self, what: String, ours: &[f32], reference: &[f64]) -> Check {
        let exact: Vec<f64> = self.keys(self.first).iter().map(|&v| self.exact(v)).collect();
        let distance = |values: &mut dyn Iterator<Item = f64>| {
            values.zip(&exact).fold(0.0_f64, |worst, (v, e)| if v.is_nan() { f64::INFINITY } else { worst.max((v - e).abs()) })
        };
        // f32 represents the exact value only this closely.
        let least = exact.iter().fold(0.0_f64, |m, v| m.max(v.abs())) * f64::from(f32::EPSILON);
        let theirs = distance(&mut self.keys(reference).iter().copied()).max(least);
        let ours = distance(&mut self.keys(ours).iter().map(|&v| f64::from(v)));
        Check { what, error: ours / theirs, tolerance: 10.0 }
    }
}
