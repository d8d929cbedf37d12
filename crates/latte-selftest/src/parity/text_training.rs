//! Kind `t2v_train`: optimiser steps of the text-to-video network, with and without a variational part, and with joint images.

use std::path::Path;

use candle_core::Device;
use golden::{Case, Check};
use latte_model::diffusion::{Diffusion, DiffusionConfig, TimestepSpacing, VarianceType};
use latte_model::model::t2v::{LatteT2v, T2vConfig};
use latte_ops::{Parameters, Precision};
use latte_train::{ActivationCheckpointing, MicroBatch, Stepper, TextToVideoNetwork, Texts, TrainState};

use super::tensors::{Result, parameters, tensor, values};
use super::training::Config;

/// The tolerance of gradients, weights and their average.
const TOLERANCE: f64 = 1e-4;

fn micro_batch(case: &Case, index: usize, num_images: usize) -> Result<MicroBatch<Texts>> {
    let of = |name: &str| -> Result<_> { tensor(&case.tensor(name)?.slice(index)) };
    let (tokens, mask) = (of("in.text")?, of("in.mask")?); // [b, l, d] and [b, l]; [b, 1 + images, …] with images
    let condition =
        if num_images == 0 { Texts { tokens: tokens.unsqueeze(1)?, mask: mask.unsqueeze(1)? } } else { Texts { tokens, mask } };
    Ok(MicroBatch {
        latents: of("in.x0")?, // [b, f + images, c, h, w]
        noise: of("in.noise")?,
        timesteps: case.tensor("in.t")?.slice(index).values.iter().map(|&t| t as usize).collect(),
        num_images,
        condition,
        loss_weights: None,
    })
}

pub(crate) fn train(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config = Config(&case);
    let variational = config.flag("variational")?;
    let variance = if variational { VarianceType::LearnedRange } else { VarianceType::FixedLarge };
    let optimizer = config.optimizer()?;
    let stepper = Stepper {
        model: TextToVideoNetwork { model: LatteT2v::new(T2vConfig::from_json(&case.config.clone().into())?)?, variational },
        diffusion: Diffusion::new(&DiffusionConfig { variance, ..DiffusionConfig::default() }, &TimestepSpacing::All)?,
        activation_checkpointing: ActivationCheckpointing::None,
        precision: Precision::F32,
    };
    let model = &stepper.model.model;
    let mut state = TrainState::new(&model.load(&parameters(&case)?)?, &model.trainable())?.to_device(device)?;
    let (steps, accumulate) = (config.count("steps")?, config.count("accumulate")?);
    let num_images = config.count("num_images")?;
    let (mut losses, mut norms, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps {
        let batches = (step * accumulate..(step + 1) * accumulate)
            .map(|index| micro_batch(&case, index, num_images))
            .collect::<Result<Vec<_>>>()?;
        let found = stepper.gradients(&state.weights, &batches)?;
        if step == 0 {
            checks.push(worst(&case, "out.grad.", &model.to_file(&found.gradients)?)?);
        }
        state.take_step(&found, &optimizer, optimizer.learning_rate)?;
        losses.push(found.loss);
        norms.push(found.grad_norm);
    }
    checks.push(Check::new("losses", &losses, case.tensor("out.losses")?, 1e-5));
    checks.push(Check::new("grad_norms", &norms, case.tensor("out.grad_norms")?, 1e-4));
    checks.push(worst(&case, "out.final.", &model.to_file(&state.weights)?)?);
    checks.push(worst(&case, "out.ema.", &model.to_file(&state.ema)?)?);
    Ok(checks)
}

/// The check of the tensor that is furthest from its reference represents all of `prefix`: they have the same tolerance.
fn worst(case: &Case, prefix: &str, ours: &Parameters) -> Result<Check> {
    let mut worst: Option<Check> = None;
    for (name, reference) in case.with_prefix(prefix) {
        let check = Check::new_f32(format!("{prefix}{name}"), &values(&ours.get(name)?.to_host()?)?, reference, TOLERANCE);
        if worst.as_ref().is_none_or(|w| check.error.is_nan() || check.error > w.error) {
            worst = Some(check);
        }
    }
    worst.ok_or_else(|| format!("the file has no `{prefix}*`").into())
}
