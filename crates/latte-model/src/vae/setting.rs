//! The space that a network works in, and the autoencoder of that space.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::{Autoencoder, AutoencoderKl, KlConfig, LatentSpace, Pixels, Posterior};
use crate::weights::WeightFiles;
use crate::{Error, Result};
use latte_ops::Precision;

/// The space that a network works in: the section `[autoencoder]` of a training configuration, and part of a checkpoint's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// The kind of autoencoder. Default `pixels`.
    #[serde(default)]
    pub kind: AutoencoderKind,
    /// With `kl`: a diffusers folder (`config.json` and weights) or a single file of weights. It may be left out if the data is a
    /// latent cache; then sampling needs it as an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The precision of the encoder's matmuls: `f32` (default, as in the original) or `bf16`.
    #[serde(default)]
    pub precision: Precision,
    /// The value taken from the encoder's distribution: `sample` (default, as in the original) or `mean`.
    #[serde(default)]
    pub posterior: Posterior,
}

/// The kinds of autoencoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoencoderKind {
    /// None: the network works on the pixels themselves.
    #[default]
    Pixels,
    /// An autoencoder of the Stable Diffusion family, frozen, with its own weights files. Every official checkpoint works in the
    /// latents of Stable Diffusion's.
    #[serde(alias = "stable_diffusion")]
    Kl,
}

/// Identifies the autoencoder of the Stable Diffusion family that makes the latents, independent of its path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderFingerprint {
    /// The SHA-256 of its weights file; for several files, that of their SHA-256s.
    pub sha256: String,
    /// Its configuration.
    pub config: KlConfig,
}

impl AutoencoderConfig {
    /// The space of the latents. It needs no weights: it is that of the configuration beside them, or Stable Diffusion's if there
    /// is none (no path is set, or it does not exist).
    ///
    /// # Errors
    ///
    /// If there is a configuration and it cannot be read.
    pub fn space(&self) -> Result<LatentSpace> {
        let config = match (self.kind, &self.path) {
            (AutoencoderKind::Pixels, _) => return Ok(LatentSpace::pixels()),
            (AutoencoderKind::Kl, Some(path)) if path.exists() => KlConfig::at(path)?,
            (AutoencoderKind::Kl, _) => KlConfig::stable_diffusion(),
        };
        config.latent_space()
    }

    /// Opens the autoencoder.
    ///
    /// # Errors
    ///
    /// If weights are needed and no path is set, or they are missing or damaged.
    pub fn open(&self) -> Result<Arc<dyn Autoencoder>> {
        self.open_on(&Device::Cpu)
    }

    /// [`open`](Self::open) on `device`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), or if the device fails.
    pub fn open_on(&self, device: &Device) -> Result<Arc<dyn Autoencoder>> {
        Ok(match self.kind {
            AutoencoderKind::Pixels => Arc::new(Pixels),
            AutoencoderKind::Kl => Arc::new(AutoencoderKl::open_on(device, self.existing_path()?, self.precision)?),
        })
    }

    /// The path of the weights.
    ///
    /// # Errors
    ///
    /// If no path is set, or it does not exist.
    pub fn existing_path(&self) -> Result<&Path> {
        let wrong = |what: String| Err(Error::config("autoencoder.path", what));
        match &self.path {
            Some(path) if path.exists() => Ok(path),
            Some(path) => wrong(format!("there is no {}; it must be the autoencoder's folder or weights file", path.display())),
            None => wrong("missing; it must be the autoencoder's folder (config.json and weights) or weights file".into()),
        }
    }
}

impl AutoencoderFingerprint {
    /// Computes the fingerprint of the autoencoder at `path`. Reads the weights whole.
    ///
    /// # Errors
    ///
    /// If there are none, or the configuration cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        Ok(Self { sha256: WeightFiles::open(path)?.fingerprint(), config: KlConfig::at(path)? })
    }

    /// Whether both autoencoders make the same latents.
    pub fn is_same(&self, other: &Self) -> bool {
        // These keys do not change latents, and copies of one autoencoder differ in them.
        let plain = |config: &KlConfig| KlConfig { sample_size: serde_json::Value::Null, force_upcast: true, ..config.clone() };
        self.sha256 == other.sha256 && plain(&self.config) == plain(&other.config)
    }
}
