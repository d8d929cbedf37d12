//! The metadata of weights that other programs wrote: read from shapes, stated by the user, or assumed.

use latte_ops::Parameters;

use super::metadata::CheckpointMetadata;
use crate::diffusion::{PredictionType, VarianceType};
use crate::model::{Condition, ConfigHints, Latte, LatteConfig};
use crate::vae::AutoencoderKind;
use crate::weights::{self, Pretrained, refuse};
use crate::{Error, Result};

/// The user's statements about weights without metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StatedMetadata {
    /// Configuration values that shapes do not show.
    pub hints: ConfigHints,
    /// The quantity that the network predicts.
    pub prediction: Option<PredictionType>,
    /// The variance of a reverse step, for networks that do not predict it.
    pub variance: Option<VarianceType>,
    /// Frames per second of the clips that the model was trained on.
    pub fps: Option<f64>,
}

/// The metadata of weights that have none, and a list of the assumed values.
#[derive(Debug, Clone, PartialEq)]
pub struct AssumedMetadata {
    /// The metadata needed to sample.
    pub metadata: CheckpointMetadata,
    /// The values that neither the weights nor the user state, and that are assumed to be those of the official checkpoints. In
    /// words.
    pub taken: Vec<String>,
    /// Whether the weights may be those of an official checkpoint, all of which predict a variance. For other weights the assumed
    /// values are only a guess.
    pub is_like_official: bool,
}

impl AssumedMetadata {
    /// Determines the metadata of a Latte's weights that have none.
    ///
    /// # Errors
    ///
    /// If they are not a Latte's weights, shapes do not show enough, or the user's statements are impossible.
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

    /// The assumed values, as one line about `path`.
    pub fn note(&self, path: &std::path::Path) -> String {
        let like = if self.is_like_official {
            "as in the official checkpoints"
        } else {
            "as in the official code, but no official checkpoint is like this one (it predicts no variance), so this may be wrong"
        };
        let say = "change it with the options of `latte convert`";
        format!("{}: it does not describe its training; taken {like}: {} ({say})", path.display(), self.taken.join(", "))
    }
}

/// The values of `metadata` that neither shapes nor the user state.
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
        taken.push(format!("labels dropped in {:.0} % of the training", 100.0 * dropout));
    }
    if metadata.autoencoder.kind == AutoencoderKind::Kl {
        taken.push("latents of Stable Diffusion's autoencoder".into());
    }
    if stated.fps.is_none() {
        taken.push(format!("{} frames per second", metadata.fps));
    }
    taken
}

/// Adds the path of the weights to an error about them.
fn named(source: &Pretrained, error: Error) -> Error {
    match error {
        Error::Config { .. } | Error::Weights(weights::Error::Shape { .. }) => {
            refuse(source.files().path(), error.to_string()).into()
        }
        other => other,
    }
}

/// Reads the weights of an official checkpoint, whose shapes show which model they belong to (see [`LatteConfig::from_weights`]),
/// and returns the assumed values.
///
/// # Errors
///
/// If they are not a Latte's weights or cannot be those of an official checkpoint, shapes do not show enough, or tensors are
/// missing or do not fit.
pub fn load_pretrained(source: &Pretrained, hints: ConfigHints) -> Result<(Parameters, AssumedMetadata)> {
    let assumed = AssumedMetadata::of(source, StatedMetadata { hints, ..StatedMetadata::default() })?;
    if !assumed.is_like_official {
        let what = "it does not say what the network predicts, and it predicts no variance, which every official checkpoint does; \
                    state them: `latte convert FILE OTHER.safetensors --prediction epsilon|x0|velocity --variance fixed_small|fixed_large`";
        return Err(refuse(source.files().path(), what).into());
    }
    let parameters =
        Latte::new(assumed.metadata.model.clone()).and_then(|model| model.load(source)).map_err(|e| named(source, e))?;
    Ok((parameters, assumed))
}
