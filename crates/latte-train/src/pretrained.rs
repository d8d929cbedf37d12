//! Loads weights of other programs: what their shapes show, what the user states, and what is assumed.

use latte_model::diffusion::{DiffusionConfig, PredictionType, VarianceType};
use latte_model::model::{Condition, Hints, Latte, LatteConfig};
use latte_model::weights::Pretrained;
use latte_ops::Parameters;

use crate::checkpoint::ModelCard;
use crate::config::{AutoencoderConfig, AutoencoderKind};
use crate::error::{Error, Result};

/// The rate that the official code writes samples with; the checkpoints do not say what they were trained on.
const FPS: f64 = 8.0;
/// Channels of pixels: a model of as many works on them, any other on latents.
const PIXEL_CHANNELS: usize = 3;
/// Pixels of height, and of width, for one place of the latents of Stable Diffusion's autoencoder.
const STABLE_DIFFUSION_FACTOR: usize = 8;

impl ModelCard {
    /// What must be known to sample from official weights of `model`: the official diffusion process, pixels or the latents of
    /// Stable Diffusion's autoencoder according to the channels, and 8 frames per second.
    pub fn of_official(model: LatteConfig, ema: bool) -> Self {
        let (kind, factor) = match model.in_channels {
            PIXEL_CHANNELS => (AutoencoderKind::Pixels, 1),
            _ => (AutoencoderKind::Kl, STABLE_DIFFUSION_FACTOR),
        };
        let autoencoder = AutoencoderConfig { kind, ..AutoencoderConfig::default() };
        // What the official code takes.
        let variance = if model.learn_sigma { VarianceType::LearnedRange } else { VarianceType::FixedLarge };
        Self {
            format: Self::FORMAT,
            diffusion: DiffusionConfig { variance, ..DiffusionConfig::default() },
            autoencoder,
            vae: None,
            classes: Vec::new(),
            frame_size: model.input_size.map(|side| side.saturating_mul(factor)),
            num_frames: model.num_frames,
            fps: FPS,
            step: 0,
            ema,
            model,
        }
    }
}

/// What the user says of weights that say nothing of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// What shapes do not tell.
    pub hints: Hints,
    /// What the network predicts.
    pub prediction: Option<PredictionType>,
    /// The variance of a reverse step, for networks that do not predict it.
    pub variance: Option<VarianceType>,
    /// Frames per second of the clips that the model was trained on.
    pub fps: Option<f64>,
}

/// The metadata of weights that have none, and which of its values are assumptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumed {
    /// What must be known to sample.
    pub card: ModelCard,
    /// What neither the weights nor the user say: taken as in the official checkpoints. In words.
    pub taken: Vec<String>,
    /// Whether the weights may be those of an official checkpoint, all of which predict a variance. Of others, what is taken for
    /// granted is no more than a guess.
    pub is_like_official: bool,
}

impl Assumed {
    /// Describes weights of a Latte that do not say what they are.
    ///
    /// # Errors
    ///
    /// If they are no Latte's, shapes do not say enough, or what the user says cannot be.
    pub fn of(source: &Pretrained, told: Told) -> Result<Self> {
        let path = source.files().path();
        let refuse = |what: String| Error::checkpoint(path, what);
        let model = LatteConfig::from_weights(source, told.hints).map_err(|e| named(source, e))?;
        let mut card = ModelCard::of_official(model, source.is_average());
        let is_like_official = card.model.learn_sigma;
        card.diffusion.prediction = told.prediction.unwrap_or(card.diffusion.prediction);
        card.diffusion.variance = told.variance.unwrap_or(card.diffusion.variance);
        if card.diffusion.variance.is_learned() != card.model.learn_sigma {
            let [what, variance] = if card.model.learn_sigma {
                ["predicts a variance", "`learned` or `learned_range`"]
            } else {
                ["predicts no variance", "`fixed_small` or `fixed_large`"]
            };
            return Err(refuse(format!("the network {what}, judging by its output channels: the variance must be {variance}")));
        }
        card.fps = told.fps.unwrap_or(card.fps);
        let taken = taken(&card, &told);
        Ok(Self { card, taken, is_like_official })
    }

    /// What was taken for granted, as one line about `path`.
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

/// What of `card` neither shapes nor the user say.
fn taken(card: &ModelCard, told: &Told) -> Vec<String> {
    let word =
        |value: serde_json::Result<serde_json::Value>| value.ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default();
    let diffusion = &card.diffusion;
    let mut taken = Vec::new();
    if told.prediction.is_none() {
        taken.push(format!("predicts {}", word(serde_json::to_value(diffusion.prediction))));
    }
    if told.variance.is_none() {
        taken.push(format!("variance {}", word(serde_json::to_value(diffusion.variance))));
    }
    taken.push(format!(
        "{} timesteps of the {} schedule",
        diffusion.num_timesteps,
        word(serde_json::to_value(diffusion.noise_schedule))
    ));
    if told.hints.num_heads.is_none() {
        taken.push(format!("{} heads", card.model.num_heads));
    }
    taken.push(format!("{} blocks", word(serde_json::to_value(card.model.block_layout))));
    if let Condition::Class { dropout, .. } = card.model.condition {
        taken.push(format!("labels hidden in {:.0} % of the training", 100.0 * dropout));
    }
    if card.autoencoder.kind == AutoencoderKind::Kl {
        taken.push("latents of Stable Diffusion's autoencoder".into());
    }
    if told.fps.is_none() {
        taken.push(format!("{} frames per second", card.fps));
    }
    taken
}

/// An error about the weights with their path.
fn named(source: &Pretrained, error: latte_model::Error) -> Error {
    match error {
        latte_model::Error::Config { .. } | latte_model::Error::Shape { .. } => {
            Error::checkpoint(source.files().path(), error.to_string())
        }
        other => other.into(),
    }
}

/// Reads the weights of an official checkpoint, whose shapes say which model they are of (see [`LatteConfig::from_weights`]), and
/// says what was taken for granted.
///
/// # Errors
///
/// If they are no Latte's or cannot be those of an official checkpoint, shapes do not say enough, or tensors are missing or do not
/// fit.
pub fn load_pretrained(source: &Pretrained, hints: Hints) -> Result<(Parameters, Assumed)> {
    let assumed = Assumed::of(source, Told { hints, ..Told::default() })?;
    if !assumed.is_like_official {
        let what = "it does not say what the network predicts, and it predicts no variance, which every official checkpoint does; \
                    say it: `latte convert FILE OTHER.safetensors --prediction epsilon|x0|velocity --variance fixed_small|fixed_large`";
        return Err(Error::checkpoint(source.files().path(), what));
    }
    let parameters = Latte::new(assumed.card.model.clone()).and_then(|model| model.load(source)).map_err(|e| named(source, e))?;
    Ok((parameters, assumed))
}
