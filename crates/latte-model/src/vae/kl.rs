//! The autoencoder of the Stable Diffusion family, which works frame by frame.

use std::fmt;
use std::path::Path;

use candle_core::{Device, Tensor};
use latte_ops::{Precision, Tape};

use super::config::{KlConfig, Sizes};
use super::convolution::Pass;
use super::layers::{Layer, whole};
use super::network::KlNetwork;
use super::{Autoencoder, DiagonalGaussian, LatentSpace, Tiling, frames};
use crate::Result;
use crate::finite::expect_finite;
use crate::layers::ParameterSpec;
use crate::weights::{CONFIG, Pretrained, STABLE_DIFFUSION_AUTOENCODER, TensorSource, WeightKind, refuse};

/// The `AutoencoderKL` of diffusers, for inference. Stable Diffusion's encodes 8 × 8 pixels as one latent position with 4 channels.
///
/// Frames are processed one at a time, so the memory is that of one frame, for any number of frames, and of the pixels themselves.
/// Decoding needs four tensors of the highest level's channels and of the frame's size (the tensor from the level below has twice
/// the channels, and counts as two): with Stable Diffusion's sizes 0.54 GB for 512 × 512 pixels, 2.1 GB for 1024 × 1024. [`Tiling`]
/// reduces it. `tests/vae_memory.rs` checks these figures.
pub struct AutoencoderKl {
    network: KlNetwork,
    space: LatentSpace,
    sizes: Sizes,
    tiling: Option<Tiling>,
    precision: Precision,
    device: Device,
    notes: Vec<String>,
}

impl AutoencoderKl {
    /// Opens a diffusers folder (`config.json` and weights) or a single file of weights, whose configuration is found as in
    /// [`KlConfig::at`]. The file may hold a whole Stable Diffusion model.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, the weights belong to another model, or those of [`Self::new`].
    pub fn open(path: &Path, precision: Precision) -> Result<Self> {
        Self::open_on(&Device::Cpu, path, precision)
    }

    /// [`open`](Self::open) on `device`: frames are moved to it, and results are moved back.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), or if the device fails.
    pub fn open_on(device: &Device, path: &Path, precision: Precision) -> Result<Self> {
        let weights = Pretrained::open(path)?;
        let (config, found) = if path.is_dir() { (KlConfig::at(path)?, true) } else { KlConfig::of_file(weights.files())? };
        expect_autoencoder(&weights, found)?;
        let mut notes: Vec<String> = weights.note().into_iter().collect();
        if !found {
            notes.push(format!(
                "{}: it has no {CONFIG} beside it; taken as Stable Diffusion's autoencoder (1 and 2), whose latents are scaled by {}",
                path.display(),
                config.scaling_factor
            ));
        }
        let opened = Self::new_on(device, config, &weights, precision).map_err(|e| refuse(path, e.to_string()))?;
        Ok(Self { notes, ..opened })
    }

    /// Reads the weights from `source`, under the names of diffusers (of any version) or of the original Stable Diffusion code,
    /// also in a file that holds a whole Stable Diffusion model (`first_stage_model.…`).
    ///
    /// # Errors
    ///
    /// If the configuration is impossible, or tensors are missing, unknown or have other shapes: the error lists them.
    pub fn new(config: KlConfig, source: &dyn TensorSource, precision: Precision) -> Result<Self> {
        Self::new_on(&Device::Cpu, config, source, precision)
    }

    /// [`new`](Self::new) on `device`.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), or if the device fails.
    pub fn new_on(device: &Device, config: KlConfig, source: &dyn TensorSource, precision: Precision) -> Result<Self> {
        let (sizes, space) = (config.sizes()?, config.latent_space()?);
        let network = KlNetwork::prepared(config, source, precision, device)?;
        Ok(Self { network, space, sizes, tiling: None, precision, device: device.clone(), notes: Vec::new() })
    }

    /// All tensors of an autoencoder with this configuration, sorted by name.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn tensors(config: &KlConfig) -> Result<Vec<ParameterSpec>> {
        Ok(KlNetwork::new(config.clone())?.parameters().to_vec())
    }

    /// Processes frames in tiles from now on.
    pub fn with_tiling(mut self, tiling: Tiling) -> Self {
        self.tiling = Some(tiling);
        self
    }

    /// Which values were assumed, and which of several sets of weights was chosen; empty if neither was necessary.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The configuration.
    pub fn config(&self) -> &KlConfig {
        self.network.config()
    }

    /// The encoder's output for each frame: means, then logarithms of variances, not scaled.
    ///
    /// # Shapes
    ///
    /// `pixels` `[n, 3, h, w]` in `[-1, 1]`; gives `[n, 2c, h/s, w/s]`.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or a side is no multiple of the downsample factor `s`.
    pub fn moments(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = frames::check("pixels", pixels, self.sizes.in_channels, self.sizes.downsample_factor())?;
        self.each_frame(&pixels, &self.network.encoder)
    }

    /// The distribution of the latents of each frame, not scaled.
    ///
    /// # Errors
    ///
    /// As [`moments`](Self::moments).
    pub fn posterior(&self, pixels: &Tensor) -> Result<DiagonalGaussian> {
        DiagonalGaussian::new(&self.moments(pixels)?)
    }

    /// Decodes latents to pixels without undoing the scale.
    ///
    /// # Shapes
    ///
    /// `latent` `[n, c, h, w]`; gives `[n, 3, h·s, w·s]`.
    ///
    /// # Errors
    ///
    /// If the shape does not fit.
    pub fn decode_unscaled(&self, latent: &Tensor) -> Result<Tensor> {
        self.each_frame(&frames::check("latent", latent, self.sizes.latent, 1)?, &self.network.decoder)
    }

    fn each_frame(&self, x: &Tensor, layers: &[Layer]) -> Result<Tensor> {
        let tape = Tape::inference().with_precision(self.precision);
        let frame = |index| {
            let frame = tape.constant(frames::channels_last(x, index)?.to_device(&self.device)?);
            let frame = match self.tiling {
                Some(tiling) => tiling.run(&tape, layers, frame)?,
                None => whole(&tape, Pass::PREPARED, layers, frame)?,
            };
            Ok(frame.to_host()?.to_device(x.device())?)
        };
        frames::channels_first(&(0..x.dims()[0]).map(frame).collect::<Result<Vec<_>>>()?)
    }
}

/// Returns an error for weights that are known to belong to something else. Unknown weights are checked tensor by tensor later.
fn expect_autoencoder(weights: &Pretrained, has_config: bool) -> Result<()> {
    /// The prefix of the text encoders of Stable Diffusion XL.
    const XL: &str = "conditioner.";
    let kind = weights.kind();
    let has = |prefix: &str| weights.names().iter().any(|name| name.starts_with(prefix));
    let what = match kind {
        WeightKind::Autoencoder | WeightKind::Unknown => return Ok(()),
        WeightKind::StableDiffusion if !has(STABLE_DIFFUSION_AUTOENCODER) => format!(
            "holds {kind}, but without its autoencoder (`{STABLE_DIFFUSION_AUTOENCODER}…`); take a file that has it, or the autoencoder's own"
        ),
        WeightKind::StableDiffusion if has(XL) && !has_config => format!(
            "holds Stable Diffusion XL, whose latents have another scale than this program assumes; put its autoencoder's \
             {CONFIG} beside it, or take the folder of the autoencoder"
        ),
        WeightKind::StableDiffusion => return Ok(()),
        _ => format!("holds {kind}; expected an autoencoder (AutoencoderKL), alone or in a Stable Diffusion model in one file"),
    };
    Err(refuse(weights.files().path(), what).into())
}

impl Autoencoder for AutoencoderKl {
    fn space(&self) -> &LatentSpace {
        &self.space
    }

    fn clip_moments(&self, pixels: &Tensor) -> Result<Tensor> {
        frames::clip_moments(pixels, |pixels| self.moments(pixels))
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        expect_finite(latent, || "the latents to be decoded".into())?;
        let (latent, clips) = frames::flatten("latent", &self.space.unscaled(latent)?)?;
        let pixels = self.decode_unscaled(&latent)?;
        expect_finite(&pixels, || "what the autoencoder makes of the latents".into())?;
        frames::unflatten(&pixels, clips)
    }
}

impl fmt::Debug for AutoencoderKl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoencoderKl").field("config", self.config()).field("tiling", &self.tiling).finish_non_exhaustive()
    }
}
