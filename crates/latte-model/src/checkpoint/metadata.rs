//! The metadata of a weights file: the data needed to sample from the weights.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diffusion::{DiffusionConfig, VarianceType};
use crate::model::LatteConfig;
use crate::vae::{AutoencoderConfig, AutoencoderFingerprint, AutoencoderKind};
use crate::weights::{self, WeightFiles, refuse};
use crate::{Error, Result};

/// The layout of checkpoints that this version writes. It grows when older programs would misread a newer checkpoint.
pub const FORMAT: u32 = 1;

/// The frame rate of the official code's samples; the checkpoints do not say the rate of their training clips.
const FPS: f64 = 8.0;
/// The channels of pixels: a model with this number works on pixels, any other on latents.
const PIXEL_CHANNELS: usize = 3;
/// The pixels of height, and of width, per latent position of Stable Diffusion's autoencoder.
const STABLE_DIFFUSION_FACTOR: usize = 8;

/// The data needed to sample from weights, stored in the metadata of the weights file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// The layout of this description; 1.
    pub format: u32,
    /// The configuration of the network.
    pub model: LatteConfig,
    /// The diffusion process that it was trained on.
    pub diffusion: DiffusionConfig,
    /// The space that the network works in.
    pub autoencoder: AutoencoderConfig,
    /// With `autoencoder.kind = "kl"`: the autoencoder that made the latents; absent if it is unknown, as for official weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<AutoencoderFingerprint>,
    /// The names of the classes, in order of their numbers; empty without classes.
    pub classes: Vec<String>,
    /// Height and width of a frame in pixels.
    pub frame_size: [usize; 2],
    /// Frames of a clip.
    pub num_frames: usize,
    /// Frames per second of the training clips.
    pub fps: f64,
    /// The number of optimiser steps that made these weights.
    pub step: u64,
    /// Whether these are the moving average.
    pub ema: bool,
}

impl CheckpointMetadata {
    /// The metadata of official weights of `model`: the official diffusion process, pixels or the latents of Stable Diffusion's
    /// autoencoder according to the channels, and 8 frames per second.
    pub fn of_official(model: LatteConfig, ema: bool) -> Self {
        let (kind, factor) = match model.in_channels {
            PIXEL_CHANNELS => (AutoencoderKind::Pixels, 1),
            _ => (AutoencoderKind::Kl, STABLE_DIFFUSION_FACTOR),
        };
        let autoencoder = AutoencoderConfig { kind, ..AutoencoderConfig::default() };
        // The official code's choice.
        let variance = if model.learn_sigma { VarianceType::LearnedRange } else { VarianceType::FixedLarge };
        Self {
            format: FORMAT,
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

    /// The metadata in a file of weights that this program wrote. No tensor is read.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be parsed.
    pub fn read(files: &WeightFiles) -> Result<Self> {
        Self::from_description(files.path(), files.description()?)
    }

    /// The metadata in `description`, the description of the weights in `path`.
    ///
    /// # Errors
    ///
    /// If there is none, it cannot be parsed, or a newer version wrote it.
    pub fn from_description(path: &Path, description: Option<Value>) -> Result<Self> {
        let description = description.ok_or_else(|| without_metadata(path, "another program wrote it"))?;
        let layout = Layout::deserialize(&description).map_err(|e| not_understood(path, &e.to_string()))?;
        check_format(path, layout.format)?;
        Self::deserialize(&description).map_err(|e| not_understood(path, &e.to_string()).into())
    }

    /// The name of a class, or its number where it has none; `video` for no class.
    pub fn class_name(&self, class: Option<u32>) -> String {
        match class {
            None => "video".into(),
            Some(number) => self.classes.get(number as usize).cloned().unwrap_or_else(|| format!("class{number}")),
        }
    }
}

/// The one field that every layout has.
#[derive(Deserialize)]
struct Layout {
    format: u32,
}

/// Checks that this version can read a checkpoint of this layout.
///
/// # Errors
///
/// [`Error::NewerLayout`] if it cannot.
pub fn check_format(path: &Path, layout: u32) -> Result<()> {
    if layout > FORMAT {
        return Err(Error::NewerLayout { path: path.to_path_buf(), layout, known: FORMAT });
    }
    Ok(())
}

/// The error of weights without metadata of their model.
pub(super) fn without_metadata(path: &Path, why: &str) -> Error {
    let what = format!("no `latte` in the metadata: the file does not say which model its weights belong to ({why})");
    refuse(path, what).into()
}

/// The error of a part of a checkpoint that is damaged.
pub fn not_understood(path: &Path, why: &str) -> weights::Error {
    refuse(path, format!("cannot be parsed, it may be damaged: {why}"))
}
