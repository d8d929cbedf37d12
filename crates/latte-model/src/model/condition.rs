//! Timestep and condition to vectors that modulate, or to tokens.

use candle_core::Device;
use latte_ops::{Tape, Var, add, concat, embedding, repeat_rows, reshape, silu};

use super::config::{Condition, Injection};
use super::position::timestep_sinusoid;
use super::{Input, Latte, Sizes, Weights};
use crate::{Error, Result};

/// The condition in the form that the model's injection takes.
pub(super) struct Conditions {
    /// For adaLN: SiLU of the sum of timestep and condition, for each clip `[b, d]`.
    pub(super) clips: Option<Var>,
    /// For adaLN where images have labels of their own: the same for each frame and image `[b·(f + images), d]`.
    pub(super) frames: Option<Var>,
    /// For tokens: timestep and condition beside the tokens of each frame, `[b, f + images, 1 or 2, d]`.
    pub(super) tokens: Option<Var>,
}

pub(super) fn embed(
    model: &Latte,
    tape: &Tape<'_>,
    weights: Weights<'_>,
    input: &Input<'_>,
    sizes: &Sizes,
) -> Result<Conditions> {
    check(model, input, sizes)?;
    let time = timestep(tape, weights, input)?; // [b, d]
    let clips = clip_condition(tape, weights, input, sizes)?; // [b, d]
    let frames = match input.image_labels {
        Some(_) => Some(frame_condition(tape, weights, input, sizes)?), // [b·(f + images), d]
        None => None,
    };
    match model.config().injection {
        Injection::SAdaln => {
            let join = |time: &Var, condition: Option<&Var>| -> Result<Var> {
                Ok(silu(tape, &condition.map_or_else(|| Ok(time.clone()), |c| add(tape, time, c))?)?)
            };
            let frames = match &frames {
                Some(frames) => Some(join(&repeat_rows(tape, &time, sizes.frames())?, Some(frames))?),
                None => None,
            };
            Ok(Conditions { clips: Some(join(&time, clips.as_ref())?), frames, tokens: None })
        }
        Injection::AllTokens => {
            let d = model.config().hidden_size;
            let spread = |v: &Var| -> Result<Var> {
                let rows = if v.dims()[0] == sizes.b { repeat_rows(tape, v, sizes.frames())? } else { v.clone() };
                Ok(reshape(tape, &rows, &[sizes.b, sizes.frames(), 1, d])?)
            };
            let time = spread(&time)?;
            let tokens = match frames.as_ref().or(clips.as_ref()) {
                Some(condition) => concat(tape, &[&time, &spread(condition)?], 2)?,
                None => time,
            };
            Ok(Conditions { clips: None, frames: None, tokens: Some(tokens) })
        }
    }
}

/// The timestep's vector, `[b, d]`.
fn timestep(tape: &Tape<'_>, weights: Weights<'_>, input: &Input<'_>) -> Result<Var> {
    let sinusoid = weights.constant(tape, &timestep_sinusoid(input.timesteps, &Device::Cpu)?)?; // [b, 256]
    let hidden = silu(tape, &weights.linear(tape, "t_embedder.mlp.0", &sinusoid)?)?;
    weights.linear(tape, "t_embedder.mlp.2", &hidden)
}

fn clip_condition(tape: &Tape<'_>, weights: Weights<'_>, input: &Input<'_>, sizes: &Sizes) -> Result<Option<Var>> {
    if let Some(labels) = input.labels {
        let table = weights.get(tape, "y_embedder.embedding_table.weight")?;
        return Ok(Some(embedding(tape, &table, labels)?));
    }
    let Some(text) = input.text else { return Ok(None) };
    let flat = weights.constant(tape, &text.reshape((sizes.b, text.elem_count() / sizes.b))?)?; // [b, length·width]
    Ok(Some(weights.linear(tape, "text_embedding_projection.1", &silu(tape, &flat)?)?))
}

/// The label's vector of each frame: the clip's for its frames, their own for images.
fn frame_condition(tape: &Tape<'_>, weights: Weights<'_>, input: &Input<'_>, sizes: &Sizes) -> Result<Var> {
    let (clips, images) = (input.labels.unwrap_or_default(), input.image_labels.unwrap_or_default());
    let mut labels = Vec::with_capacity(sizes.b * sizes.frames());
    for (clip, images) in clips.iter().zip(images.chunks(sizes.images)) {
        labels.extend(std::iter::repeat_n(*clip, sizes.f));
        labels.extend_from_slice(images);
    }
    let table = weights.get(tape, "y_embedder.embedding_table.weight")?;
    Ok(embedding(tape, &table, &labels)?)
}

/// Whether the condition is what the model is conditioned on.
fn check(model: &Latte, input: &Input<'_>, sizes: &Sizes) -> Result<()> {
    let config = model.config();
    let count = |key: &str, got: Option<&[u32]>, expected: usize| match got.map_or(0, <[u32]>::len) {
        n if n == expected => Ok(()),
        n => Err(Error::config(key, format!("expected {expected} for this model and batch, got {n}"))),
    };
    let classes = matches!(config.condition, Condition::Class { .. });
    count("labels", input.labels, if classes { sizes.b } else { 0 })?;
    count("image_labels", input.image_labels, if classes { sizes.b * sizes.images } else { 0 })?;
    if let Condition::Class { num_classes, .. } = config.condition {
        let last = config.null_label().unwrap_or(num_classes as u32 - 1);
        let mut all = input.labels.into_iter().chain(input.image_labels).flatten();
        if let Some(label) = all.find(|&&label| label > last) {
            return Err(Error::config("labels", format!("expected 0 to {last} for {num_classes} classes, got {label}")));
        }
    }
    let expected = match config.condition {
        Condition::Text { length, width } => Some(vec![sizes.b, length, width]),
        _ => None,
    };
    let got = input.text.map(|t| t.dims().to_vec());
    if expected != got {
        let expected = expected.map_or_else(|| "no text for this model".into(), |e| format!("{e:?}"));
        return Err(Error::Shape { name: "text".into(), expected, got: got.unwrap_or_default() });
    }
    Ok(())
}
