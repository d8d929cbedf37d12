//! Kinds `latte` and `latte_joint`: forward passes, guidance and gradients of the official network.

use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Case, Check};
use latte_model::guidance::{Guidance, GuidedChannels};
use latte_model::model::{BlockLayout, Condition, Input, Latte, LatteConfig, PatchEmbedding, TemporalPosition};
use latte_ops::{Parameters, Precision, Tape};
use serde::Deserialize;

use super::tensors::{self, Result, tensor, values};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
/// Operands with 8 significant bits.
const BF16: f64 = 2e-2;

/// The names of the official code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    input_size: usize,
    patch_size: usize,
    in_channels: usize,
    hidden_size: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    num_frames: usize,
    class_dropout_prob: f64,
    num_classes: usize,
    learn_sigma: bool,
    /// 1: unconditional, 2: classes.
    extras: usize,
    images: usize,
    variant: BlockLayout,
}

fn model(device: &Device, case: &Case) -> Result<(Latte, Parameters, Config)> {
    let config: Config = serde_json::from_value(case.config.clone().into())?;
    let condition = match config.extras {
        1 => Condition::None,
        2 => Condition::Class { num_classes: config.num_classes, dropout: config.class_dropout_prob },
        other => return Err(format!("extras {other} is not known").into()),
    };
    let model = Latte::new(LatteConfig {
        input_size: [config.input_size; 2],
        num_frames: config.num_frames,
        in_channels: config.in_channels,
        patch_size: config.patch_size,
        hidden_size: config.hidden_size,
        depth: config.depth,
        num_heads: config.num_heads,
        mlp_ratio: config.mlp_ratio,
        block_layout: config.variant,
        patch_embedding: PatchEmbedding::UniformFrame,
        injection: latte_model::model::Injection::SAdaln,
        condition,
        temporal_position: TemporalPosition::Absolute,
        learn_sigma: config.learn_sigma,
    })?;
    let parameters = tensors::parameters(case)?.to_device(device)?;
    model.check(&parameters)?;
    Ok((model, parameters, config))
}

fn labels(case: &Case, name: &str) -> Result<Vec<u32>> {
    Ok(case.tensor(name)?.values.iter().map(|&v| v as u32).collect())
}

pub(crate) fn latte(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let (model, parameters, config) = model(device, &case)?;
    let (x, t) = (tensor(case.tensor("in.x")?)?.to_device(device)?, &case.tensor("in.t")?.values);
    let y = if config.extras == 2 { Some(labels(&case, "in.y")?) } else { None };
    let input = Input { labels: y.as_deref(), ..Input::new(&x, t) };

    let tape = Tape::recording();
    let prediction = model.forward(&tape, &parameters, &input)?;
    let out = prediction.to_host()?;
    let mut checks = vec![Check::new_f32("out", &values(&out)?, case.tensor("out.out")?, FORWARD)];

    let loss = out.sqr()?.mean_all()?.to_scalar::<f32>()?;
    checks.push(Check::new_f32("loss", &[loss], case.tensor("out.loss")?, FORWARD));
    let gradient = (&out * (2.0 / out.elem_count() as f64))?;
    let gradients = tape.backward(&prediction, parameters.beside(&gradient)?)?;
    let mut worst: Option<Check> = None;
    for (name, reference) in case.with_prefix("out.grad.") {
        let ours = gradients.parameter(name).ok_or_else(|| format!("no gradient of `{name}`"))?;
        let check = Check::new_f32(format!("grad {name}"), &values(&ours.to_host()?)?, reference, GRADIENT);
        if worst.as_ref().is_none_or(|w| check.error > w.error) {
            worst = Some(check);
        }
    }
    checks.push(worst.ok_or("the file has no gradients")?);

    let half = model.forward(&Tape::inference().with_precision(Precision::Bf16), &parameters, &input)?;
    checks.push(Check::new_f32("out in bf16", &values(&half.to_host()?)?, case.tensor("out.out")?, BF16));

    if let (Some(reference), Some(y)) = (case.tensors.get("out.cfg"), y) {
        let null = model.config().null_label().ok_or("guidance needs a null label")?;
        let both = Tensor::cat(&[&x, &x], 0)?;
        let labels: Vec<u32> = y.iter().copied().chain(std::iter::repeat_n(null, y.len())).collect();
        let times: Vec<f64> = t.iter().chain(t).copied().collect();
        let input = Input { labels: Some(&labels), ..Input::new(&both, &times) };
        let out = model.forward(&Tape::inference(), &parameters, &input)?;
        // The reference guides both halves of the batch, and each half keeps its own variance.
        let out = out.to_host()?;
        let (conditional, unconditional) = (out.narrow(0, 0, y.len())?, out.narrow(0, y.len(), y.len())?);
        let guided = Guidance::new(4.0, GuidedChannels::First(config.in_channels)).combine(&conditional, &unconditional)?;
        let channels = config.in_channels;
        let rest = unconditional.narrow(2, channels, unconditional.dims()[2] - channels)?;
        let second = Tensor::cat(&[&guided.narrow(2, 0, channels)?, &rest], 2)?;
        let guided = Tensor::cat(&[&guided, &second], 0)?;
        checks.push(Check::new_f32("cfg", &values(&guided)?, reference, FORWARD));
    }
    Ok(checks)
}

pub(crate) fn latte_joint(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let (model, parameters, config) = model(device, &case)?;
    let (x, t) = (tensor(case.tensor("in.x")?)?.to_device(device)?, &case.tensor("in.t")?.values);
    let (y, y_image) =
        if config.extras == 2 { (Some(labels(&case, "in.y")?), Some(labels(&case, "in.y_image")?)) } else { (None, None) };
    let input = Input { labels: y.as_deref(), image_labels: y_image.as_deref(), num_images: config.images, ..Input::new(&x, t) };
    let out = model.forward(&Tape::inference(), &parameters, &input)?;
    let half = model.forward(&Tape::inference().with_precision(Precision::Bf16), &parameters, &input)?;
    Ok(vec![
        Check::new_f32("out", &values(&out.to_host()?)?, case.tensor("out.out")?, FORWARD),
        Check::new_f32("out in bf16", &values(&half.to_host()?)?, case.tensor("out.out")?, BF16),
    ])
}
