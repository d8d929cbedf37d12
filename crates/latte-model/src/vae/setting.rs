//! Which space a network works in, and which autoencoder leads there.

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
    /// Which one. Default `pixels`.
    #[serde(default)]
    pub kind: AutoencoderKind,
    /// With `kl`: a diffusers folder (`config.json` and weights) or a single file of weights. May be left out where the data
    /// is a latent cache, and then sampling needs it as an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The precision of the encoder's matmuls: `f32` (default, as the original) or `bf16`.
    #[serde(default)]
    pub precision: Precision,
    /// What is taken from the encoder's distribution: `sample` (default, as the original) or `mean`.
    #[serde(default)]
    pub posterior: Posterior,
}

/// The autoencoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoencoderKind {
    /// None: the network works on the pixels themselves.
    #[default]
    Pixels,
    /// One of the Stable Diffusion family, frozen, whose weights are files of their own. Every official checkpoint works in the
    /// latents of Stable Diffusion's.
    #[serde(alias = "stable_diffusion")]
    Kl,
}

/// Which autoencoder of the Stable Diffusion family makes the latents: what they depend on, wherever it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderFingerprint {
    /// The SHA-256 of its weights file; of several files, that of their SHA-256s.
    pub sha256: String,
    /// Its configuration.
    pub config: KlConfig,
}

impl AutoencoderConfig {
    /// The space of the latents. Needs no weights: the configuration beside them says it, and where there is none (no path is
    /// written, or nothing lies there), Stable Diffusion's holds.
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

    /// The autoencoder itself.
    ///
    /// # Errors
    ///
    /// If no path is written where weights are needed, or the weights are missing or damaged.
    pub fn open(&self) -> Result<Arc<dyn Autoencoder>> {
        self.open_on(&Device::Cpu)
    }

    /// [`open`](Self::open), to work on `device`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or if the device fails.
    pub fn open_on(&self, device: &Device) -> Result<Arc<dyn Autoencoder>> {
        Ok(match self.kind {
            AutoencoderKind::Pixels => Arc::new(Pixels),
            AutoencoderKind::Kl => Arc::new(AutoencoderKl::open_on(device, self.existing_path()?, self.precision)?),
        })
    }

    /// Where the weights lie.
    ///
    /// # Errors
    ///
    /// If no path is written, or nothing lies there.
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
    /// Reads the weights at `path` whole.
    ///
    /// # Errors
    ///
    /// If there are none, or the configuration cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        Ok(Self { sha256: WeightFiles::open(path)?.fingerprint(), config: KlConfig::at(path)? })
    }

    /// Whether latents of the one are those of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        // What these keys say changes no latent, and copies of one autoencoder differ in them.
        let plain = |config: &KlConfig| KlConfig { sample_size: serde_json::Value::Null, force_upcast: true, ..config.clone() };
        self.sha256 == other.sha256 && plain(&self.config) == plain(&other.config)
    }
}
