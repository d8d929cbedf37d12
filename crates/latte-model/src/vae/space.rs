//! Converts an encoder's output to the latents for diffusion.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{DiagonalGaussian, frames};
use crate::noise::TorchRng;
use crate::{Error, Result};

/// The value that is taken from the distribution that an encoder outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posterior {
    /// A random draw, as in the original.
    #[default]
    Sample,
    /// The mean, which is deterministic.
    Mean,
}

/// The space of an autoencoder's latents: their shape, and their computation from the encoder's output. It needs no weights, so
/// that training on encoded clips needs none either.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentSpace {
    channels: usize,
    downsample_factor: usize,
    /// Mean and deviation of each channel, by which draws are centred and scaled; `None` if the encoder outputs the latents
    /// themselves instead of a distribution.
    scale: Option<[Vec<f64>; 2]>,
}

impl LatentSpace {
    /// The space of pixels.
    pub const fn pixels() -> Self {
        Self { channels: 3, downsample_factor: 1, scale: None }
    }

    /// The space of latents `(x − mean) / deviation`, channel by channel, of draws `x` from the encoder's distribution.
    pub(super) fn scaled(downsample_factor: usize, means: Vec<f64>, deviations: Vec<f64>) -> Self {
        Self { channels: means.len(), downsample_factor, scale: Some([means, deviations]) }
    }

    /// The number of channels of a latent.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The pixels of height, and of width, per latent position.
    pub fn downsample_factor(&self) -> usize {
        self.downsample_factor
    }

    /// The number of channels of the moments: twice those of a latent if there is a distribution.
    pub fn moment_channels(&self) -> usize {
        if self.scale.is_some() { 2 * self.channels } else { self.channels }
    }

    /// The shape `[f, c, h / s, w / s]` of the latent of one clip of pixels `[f, 3, h, w]`.
    ///
    /// # Errors
    ///
    /// If `height` or `width` is no multiple of the downsample factor `s`.
    pub fn latent_shape(&self, frames: usize, height: usize, width: usize) -> Result<[usize; 4]> {
        let s = self.downsample_factor;
        if !height.is_multiple_of(s) || !width.is_multiple_of(s) {
            return Err(Error::config("size", format!("expected multiples of {s}, got {height} × {width}")));
        }
        Ok([frames, self.channels, height / s, width / s])
    }

    /// Computes latents, scaled for diffusion, from the encoder's output. A draw advances `rng` as PyTorch does for a tensor of
    /// their shape; the mean does not use it.
    ///
    /// # Shapes
    ///
    /// `moments` `[b, f, m, h, w]` with `m` = [`moment_channels`](Self::moment_channels): means, then logarithms of variances, not
    /// scaled. Gives `[b, f, c, h, w]`.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or the device fails.
    pub fn latents(&self, moments: &Tensor, posterior: Posterior, rng: &mut TorchRng) -> Result<Tensor> {
        let (flat, clips) = frames::flatten("moments", moments)?; // [b·f, m, h, w]
        let flat = frames::check("moments", &flat, self.moment_channels(), 1)?;
        let Some([means, deviations]) = &self.scale else { return frames::unflatten(&flat, clips) };
        let gaussian = DiagonalGaussian::new(&flat)?;
        let x = match posterior {
            Posterior::Sample => gaussian.sample(rng)?,
            Posterior::Mean => gaussian.mode().clone(),
        };
        // A product, as in the original, for the same rounding.
        let factor = per_channel(deviations, |deviation| 1.0 / deviation, x.device())?;
        frames::unflatten(&x.broadcast_sub(&per_channel(means, |mean| mean, x.device())?)?.broadcast_mul(&factor)?, clips)
    }

    /// Undoes the scaling of latents.
    ///
    /// # Shapes
    ///
    /// `latent` `[b, f, c, h, w]`; gives the same shape.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or the device fails.
    pub fn unscaled(&self, latent: &Tensor) -> Result<Tensor> {
        let (flat, clips) = frames::flatten("latent", latent)?; // [b·f, c, h, w]
        let flat = frames::check("latent", &flat, self.channels, 1)?;
        let Some([means, deviations]) = &self.scale else { return frames::unflatten(&flat, clips) };
        let deviation = per_channel(deviations, |deviation| deviation, flat.device())?;
        frames::unflatten(
            &flat.broadcast_mul(&deviation)?.broadcast_add(&per_channel(means, |mean| mean, flat.device())?)?,
            clips,
        )
    }
}

/// One value for each channel, as `[1, c, 1, 1]`.
fn per_channel(values: &[f64], f: impl Fn(f64) -> f64, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|&value| f(value) as f32).collect();
    let channels = values.len();
    Ok(Tensor::from_vec(values, (1, channels, 1, 1), device)?)
}
