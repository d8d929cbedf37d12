//! Weights of other programs, as this program's.

use latte::diffusion::{DiffusionConfig, VarianceType};
use latte::model::{Hints, Latte, LatteConfig};
use latte::weights::Pretrained;
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
        let variance = if model.learn_sigma { VarianceType::LearnedRange } else { VarianceType::FixedSmall };
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

/// Reads the weights of an official checkpoint, whose shapes say which model they are of (see
/// [`LatteConfig::from_weights`]).
///
/// # Errors
///
/// If they are no Latte's, shapes do not say enough, or tensors are missing or do not fit.
pub fn load_pretrained(source: &Pretrained, hints: Hints) -> Result<(Parameters, ModelCard)> {
    let path = source.files().path();
    let refuse = |e: latte::Error| match e {
        latte::Error::Config { .. } | latte::Error::Shape { .. } => Error::checkpoint(path, e.to_string()),
        other => other.into(),
    };
    let config = LatteConfig::from_weights(source, hints).map_err(refuse)?;
    let parameters = Latte::new(config.clone()).and_then(|model| model.load(source)).map_err(refuse)?;
    Ok((parameters, ModelCard::of_official(config, source.part().is_some_and(|part| part.ends_with("ema")))))
}
