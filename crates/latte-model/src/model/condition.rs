//! Computes modulation vectors or tokens from timestep and condition.

use latte_ops::{Parameters, Tape, Var, add, concat, embedding, repeat_rows, reshape, silu};

use super::config::{Condition, Injection, LatteConfig};
use super::position::Frequencies;
use super::{Input, Sizes};
use crate::layers::{Init, Linear, Param, ParamScope, TimestepEmbedder, constant};
use crate::{Error, Result};

/// The embedding layers of timestep and condition.
#[derive(Debug, Clone)]
pub(super) struct ConditionEmbedder {
    timestep: TimestepEmbedder,
    condition: Embedded,
}

/// The layers of the condition.
#[derive(Debug, Clone)]
enum Embedded {
    Nothing,
    /// A row for each class.
    Classes(Param),
    Text(Linear),
}

/// The condition in the form of the model's injection.
pub(super) struct Conditions {
    /// For adaLN: SiLU of the sum of timestep and condition embedding, for each clip `[b, d]`.
    pub(super) clips: Option<Var>,
    /// For adaLN if images have their own labels: the same for each frame and image `[b·(f + images), d]`.
    pub(super) frames: Option<Var>,
    /// For token injection: the tokens of timestep and condition that are added to each frame, `[b, f + images, 1 or 2, d]`.
    pub(super) tokens: Option<Var>,
}

impl ConditionEmbedder {
    pub(super) fn new(scope: &ParamScope<'_>, config: &LatteConfig) -> Self {
        let d = config.hidden_size;
        let normal = Init::Normal { deviation: 0.02 };
        let timestep = TimestepEmbedder::new(&scope.within("t_embedder.mlp"), ["0", "2"], d, normal, Frequencies::Nearest);
        let condition = match config.condition {
            Condition::None => Embedded::Nothing,
            Condition::Class { num_classes, dropout } => {
                let rows = num_classes + usize::from(dropout > 0.0);
                Embedded::Classes(scope.param("y_embedder.embedding_table.weight", &[rows, d], normal))
            }
            Condition::Text { length, width } => {
                Embedded::Text(Linear::new(scope, "text_embedding_projection.1", [d, length * width], Init::Xavier))
            }
        };
        Self { timestep, condition }
    }

    pub(super) fn forward(
        &self,
        config: &LatteConfig,
        tape: &Tape<'_>,
        weights: &Parameters,
        input: &Input<'_>,
        sizes: &Sizes,
    ) -> Result<Conditions> {
        check(config, input, sizes)?;
        let time = self.timestep.forward(tape, weights, input.timesteps)?; // [b, d]
        let clips = self.clip_condition(tape, weights, input, sizes)?; // [b, d]
        let frames = self.frame_condition(tape, weights, input, sizes)?; // [b·(f + images), d]
        match config.injection {
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
                let d = config.hidden_size;
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

    fn clip_condition(&self, tape: &Tape<'_>, weights: &Parameters, input: &Input<'_>, sizes: &Sizes) -> Result<Option<Var>> {
        Ok(match (&self.condition, input.labels, input.text) {
            (Embedded::Classes(table), Some(labels), _) => Some(embedding(tape, &table.on(tape, weights)?, labels)?),
            (Embedded::Text(layer), _, Some(text)) => {
                let flat = constant(tape, weights, &text.reshape((sizes.b, text.elem_count() / sizes.b))?)?; // [b, length·width]
                Some(layer.forward(tape, weights, &silu(tape, &flat)?)?)
            }
            _ => None,
        })
    }

    /// The label embedding of each frame, if images have labels: clip frames get the clip's label, images their own.
    fn frame_condition(&self, tape: &Tape<'_>, weights: &Parameters, input: &Input<'_>, sizes: &Sizes) -> Result<Option<Var>> {
        let images = input.image_labels.filter(|_| sizes.images > 0);
        let (Embedded::Classes(table), Some(images)) = (&self.condition, images) else { return Ok(None) };
        let mut labels = Vec::with_capacity(sizes.b * sizes.frames());
        for (clip, images) in input.labels.unwrap_or_default().iter().zip(images.chunks(sizes.images)) {
            labels.extend(std::iter::repeat_n(*clip, sizes.f));
            labels.extend_from_slice(images);
        }
        Ok(Some(embedding(tape, &table.on(tape, weights)?, &labels)?))
    }
}

/// Checks that the given condition is the one of the configuration.
fn check(config: &LatteConfig, input: &Input<'_>, sizes: &Sizes) -> Result<()> {
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
