//! The metadata of weights that other programs wrote: what their shapes show, what the user states, and what is assumed.

use latte_ops::Parameters;

use super::metadata::CheckpointMetadata;
use crate::diffusion::{PredictionType, VarianceType};
use crate::model::{Condition, ConfigHints, Latte, LatteConfig};
use crate::vae::AutoencoderKind;
use crate::weights::{self, Pretrained, refuse};
use crate::{Error, Result};

/// What the user says of weights that say nothing of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StatedMetadata {
    /// What shapes do not tell.
    pub hints: ConfigHints,
    /// What the network predicts.
    pub prediction: Option<PredictionType>,
    /// The variance of a reverse step, for networks that do not predict it.
    pub variance: Option<VarianceType>,
    /// Frames per second of the clips that the model was trained on.
    pub fps: Option<f64>,
}

/// The metadata of weights that have none, and which of its values are assumptions.
#[derive(Debug, Clone, PartialEq)]
pub struct AssumedMetadata {
    /// What must be known to sample.
    pub metadata: CheckpointMetadata,
    /// What neither the weights nor the user say: taken as in the official checkpoints. In words.
    pub taken: Vec<String>,
    /// Whether the weights may be those of an official checkpoint, all of which predict a variance. Of others, what is taken for
    /// granted is no more than a guess.
    pub is_like_official: bool,
}

impl AssumedMetadata {
    /// Describes weights of a Latte that do not say what they are.
    ///
    /// # Errors
    ///
    /// If they are no Latte's, shapes do not say enough, or what the user says cannot be.
    pub fn of(source: &Pretrained, stated: StatedMetadata) -> Result<Self> {
        let path = source.files().path();
        let model = LatteConfig::from_weights(source, stated.hints).map_err(|e| named(source, e))?;
        let mut metadata = CheckpointMetadata::of_official(model, source.is_average());
        let is_like_official = metadata.model.learn_sigma;
        metadata.diffusion.prediction = stated.prediction.unwrap_or(metadata.diffusion.prediction);
        metadata.diffusion.variance = stated.variance.unwrap_or(metadata.diffusion.variance);
        if metadata.diffusion.variance.is_learned() != metadata.model.learn_sigma {
            let [what, variance] = if metadata.model.learn_sigma {
                ["predicts a variance", "`learned` or `learned_range`"]
            } else {
                ["predicts no variance", "`fixed_small` or `fixed_large`"]
            };
            return Err(refuse(
                path,
                format!("the network {what}, judging by its output channels: the variance must be {variance}"),
            )
            .into());
        }
        metadata.fps = stated.fps.unwrap_or(metadata.fps);
        let taken = taken(&metadata, &stated);
        Ok(Self { metadata, taken, is_like_official })
    }

    /// What was assumed, as one line about `path`.
    pub fn note(&self, path: &std::path::Path) -> String {
        let like = if self.is_like_official {
            "as in the official checkpoints"
        } else {
            "as the official code has it, though no official checkpoint is like this one (it predicts no variance), so this may be wrong"
        };
        let say = "say otherwise with the options of `latte convert`";
        format!("{}: it does not say how it was trained; taken {like}: {} ({say})", path.display(), self.taken.join(", "))
    }
}

/// What of `metadata` neither shapes nor the user say.
fn taken(metadata: &CheckpointMetadata, stated: &StatedMetadata) -> Vec<String> {
    let word =
        |value: serde_json::Result<serde_json::Value>| value.ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default();
    let diffusion = &metadata.diffusion;
    let mut taken = Vec::new();
    if stated.prediction.is_none() {
        taken.push(format!("predicts {}", word(serde_json::to_value(diffusion.prediction))));
    }
    if stated.variance.is_none() {
        taken.push(format!("variance {}", word(serde_json::to_value(diffusion.variance))));
    }
    taken.push(format!(
        "{} timesteps of the {} schedule",
        diffusion.num_timesteps,
        word(serde_json::to_value(diffusion.noise_schedule))
    ));
    if stated.hints.num_heads.is_none() {
        taken.push(format!("{} heads", metadata.model.num_heads));
    }
    taken.push(format!("{} blocks", word(serde_json::to_value(metadata.model.block_layout))));
    if let Condition::Class { dropout, .. } = metadata.model.condition {
        taken.push(format!("labels hidden in {:.0} % of the training", 100.0 * dropout));
    }
    if metadata.autoencoder.kind == AutoencoderKind::Kl {
        taken.push("latents of Stable Diffusion's autoencoder".into());
    }
    if stated.fps.is_none() {
        taken.push(format!("{} frames per second", metadata.fps));
    }
    taken
}

/// An error about the weights with their path.
fn named(source: &Pretrained, error: Error) -> Error {
    match error {
        Error::Config { .. } | Error::Weights(weights::Error::Shape { .. }) => {
            refuse(source.files().path(), error.to_string()).into()
        }
        other => other,
    }
}

/// Reads the weights of an official checkpoint, whose shapes say which model they are of (see [`LatteConfig::from_weights`]), and
/// says what was assumed.
///
/// # Errors
///
/// If they are no Latte's or cannot be those of an official checkpoint, shapes do not say enough, or tensors are missing or do not
/// fit.
pub fn load_pretrained(source: &Pretrained, hints: ConfigHints) -> Result<(Parameters, AssumedMetadata)> {
    let assumed = AssumedMetadata::of(source, StatedMetadata { hints, ..StatedMetadata::default() })?;
    if !assumed.is_like_official {
        let what = "it does not say what the network predicts, and it predicts no variance, which every official checkpoint does; \
                    say it: `latte convert FILE OTHER.safetensors --prediction epsilon|x0|velocity --variance fixed_small|fixed_large`";
        return Err(refuse(source.files().path(), what).into());
    }
    let parameters =
        Latte::new(assumed.metadata.model.clone()).and_then(|model| model.load(source)).map_err(|e| named(source, e))?;
    Ok((parameters, assumed))
}
