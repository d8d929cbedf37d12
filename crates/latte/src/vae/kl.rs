//! The autoencoder of the Stable Diffusion family, frame by frame.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{Device, Tensor};
use latte_ops::Precision;

use super::config::{KlConfig, Sizes};
use super::layers::{Layer, decoder, encoder, whole};
use super::reader::{Reader, in_folder};
use super::{Autoencoder, DiagonalGaussian, Tiling, frames};
use crate::Result;
use crate::noise::TorchRng;
use crate::weights::TensorSource;

/// The `AutoencoderKL` of diffusers: 8 × 8 pixels become one place of 4 channels in Stable Diffusion's. For inference, on the
/// CPU.
///
/// Frames are worked on one at a time, so the memory is that of one frame, whatever their number, and of the pixels themselves.
/// Decoding needs four tensors of the highest level's channels and of the frame's size (what comes up from the level below has
/// twice the channels, and counts as two): with Stable Diffusion's sizes 0.54 GB for 512 × 512 pixels, 2.1 GB for 1024 × 1024.
/// For larger ones, or less memory, see [`Tiling`]. `tests/vae_memory.rs` counts.
pub struct AutoencoderKl {
    config: KlConfig,
    sizes: Sizes,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    tiling: Option<Tiling>,
}

impl AutoencoderKl {
    /// Opens a diffusers folder: `config.json`, and weights beside it.
    ///
    /// # Errors
    ///
    /// If one of them is missing or damaged, or as [`Self::new`].
    pub fn open(folder: &Path, precision: Precision) -> Result<Self> {
        in_folder(folder, |config, files| Self::new(KlConfig::from_json(config)?, files, precision))
    }

    /// Takes the weights from `source`, by the names of diffusers (of any version) or of the original Stable Diffusion code,
    /// there also within a file that holds all of Stable Diffusion (`first_stage_model.…`).
    ///
    /// # Errors
    ///
    /// If the configuration is impossible, or tensors are missing, not known or of other shapes: they are listed.
    pub fn new(config: KlConfig, source: &dyn TensorSource, precision: Precision) -> Result<Self> {
        let sizes = config.sizes()?;
        let (encoder, decoder) = Reader::build(source, precision, sizes.levels.len(), |reader| layers(reader, &config, &sizes))?;
        Ok(Self { config, sizes, encoder, decoder, tiling: None })
    }

    /// The names and shapes of all tensors of an autoencoder of this configuration.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn tensors(config: &KlConfig) -> Result<BTreeMap<String, Vec<usize>>> {
        let sizes = config.sizes()?;
        Reader::wanted(sizes.levels.len(), |reader| layers(reader, config, &sizes))
    }

    /// Works on tiles of frames from now on.
    pub fn with_tiling(mut self, tiling: Tiling) -> Self {
        self.tiling = Some(tiling);
        self
    }

    /// The configuration.
    pub fn config(&self) -> &KlConfig {
        &self.config
    }

    /// What the encoder says of each frame: means, then logarithms of variances, not scaled.
    ///
    /// # Shapes
    ///
    /// `pixels` `[n, 3, h, w]` in `[-1, 1]`; gives `[n, 2c, h/s, w/s]`.
    ///
    /// # Errors
    ///
    /// If the shape is another one, or a side is no multiple of the downsample factor `s`.
    pub fn moments(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = frames::check("pixels", pixels, self.sizes.in_channels, self.sizes.downsample_factor())?;
        self.each_frame(&pixels, &self.encoder)
    }

    /// The distribution of the latents of each frame, not scaled.
    ///
    /// # Errors
    ///
    /// As [`moments`](Self::moments).
    pub fn posterior(&self, pixels: &Tensor) -> Result<DiagonalGaussian> {
        DiagonalGaussian::new(&self.moments(pixels)?)
    }

    /// Latents to pixels without undoing the scale.
    ///
    /// # Shapes
    ///
    /// `latent` `[n, c, h, w]`; gives `[n, 3, h·s, w·s]`.
    ///
    /// # Errors
    ///
    /// If the shape is another one.
    pub fn decode_unscaled(&self, latent: &Tensor) -> Result<Tensor> {
        self.each_frame(&frames::check("latent", latent, self.sizes.latent, 1)?, &self.decoder)
    }

    fn each_frame(&self, x: &Tensor, layers: &[Layer]) -> Result<Tensor> {
        let frame = |index| {
            let frame = frames::channels_last(x, index)?;
            match self.tiling {
                Some(tiling) => tiling.run(layers, frame),
                None => whole(layers, frame),
            }
        };
        frames::channels_first(&(0..x.dims()[0]).map(frame).collect::<Result<Vec<_>>>()?)
    }

    /// Mean and standard deviation of each channel as `[1, c, 1, 1]`, by which latents are centred and scaled.
    fn centre(&self, device: &Device) -> Result<[Tensor; 2]> {
        let c = self.sizes.latent;
        let shift = self.config.shift_factor.unwrap_or(0.0);
        let channels = |values: &Option<Vec<f64>>, default: f64, f: &dyn Fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> =
                (0..c).map(|i| f(values.as_ref().and_then(|v| v.get(i)).copied().unwrap_or(default)) as f32).collect();
            Ok(Tensor::from_vec(values, (1, c, 1, 1), device)?)
        };
        let mean = channels(&self.config.latents_mean, 0.0, &|mean| mean + shift)?;
        Ok([mean, channels(&self.config.latents_std, 1.0, &|std| std / self.config.scaling_factor)?])
    }
}

fn layers(reader: &Reader<'_>, config: &KlConfig, sizes: &Sizes) -> Result<(Vec<Layer>, Vec<Layer>)> {
    Ok((encoder(reader, sizes, config.use_quant_conv)?, decoder(reader, sizes, config.use_post_quant_conv)?))
}

impl Autoencoder for AutoencoderKl {
    fn encode(&self, pixels: &Tensor, rng: &mut TorchRng) -> Result<Tensor> {
        let (pixels, clip) = frames::flatten("pixels", pixels)?;
        let latent = self.posterior(&pixels)?.sample(rng)?;
        let [mean, std] = self.centre(latent.device())?;
        frames::unflatten(&latent.broadcast_sub(&mean)?.broadcast_div(&std)?, clip)
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let (latent, clip) = frames::flatten("latent", latent)?;
        let latent = frames::check("latent", &latent, self.sizes.latent, 1)?;
        let [mean, std] = self.centre(latent.device())?;
        frames::unflatten(&self.decode_unscaled(&latent.broadcast_mul(&std)?.broadcast_add(&mean)?)?, clip)
    }

    fn latent_channels(&self) -> usize {
        self.sizes.latent
    }

    fn downsample_factor(&self) -> usize {
        self.sizes.downsample_factor()
    }
}

impl fmt::Debug for AutoencoderKl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoencoderKl").field("config", &self.config).field("tiling", &self.tiling).finish_non_exhaustive()
    }
}
