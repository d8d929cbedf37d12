//! Pixels to latents and back. Shape letters: `b` batch, `f` frames, `c` channels, `h w` height and width.

mod config;
mod frames;
mod gaussian;
mod kl;
mod layers;
mod pixels;
mod reader;
mod temporal;
mod tiles;

use candle_core::Tensor;

pub use config::{KlConfig, TemporalDecoderConfig};
pub use gaussian::DiagonalGaussian;
pub use kl::AutoencoderKl;
pub use pixels::Pixels;
pub use temporal::AutoencoderKlTemporalDecoder;
pub use tiles::Tiling;

use crate::noise::TorchRng;
use crate::{Error, Result};

/// Turns pixels into the latents that diffusion works on, and latents into pixels.
///
/// Each frame is encoded by itself. Implementations are shared between threads.
pub trait Autoencoder: Send + Sync {
    /// Pixels to latents, already scaled for diffusion. Autoencoders that give a distribution draw from it with `rng`.
    ///
    /// # Shapes
    ///
    /// `pixels` is `[b, f, 3, h, w]`, f32 in `[-1, 1]`; returns `[b, f, c, h / s, w / s]` with `c` =
    /// [`latent_channels`](Self::latent_channels) and `s` = [`downsample_factor`](Self::downsample_factor).
    ///
    /// # Errors
    ///
    /// If the shape is another one, a side is no multiple of `s`, or the device fails.
    fn encode(&self, pixels: &Tensor, rng: &mut TorchRng) -> Result<Tensor>;

    /// Latents to pixels.
    ///
    /// # Shapes
    ///
    /// `latent` is `[b, f, c, h, w]`; returns `[b, f, 3, h · s, w · s]`, around `[-1, 1]` but not clamped to it.
    ///
    /// # Errors
    ///
    /// If the shape is another one, or the device fails.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;

    /// How many channels a latent has.
    fn latent_channels(&self) -> usize;

    /// How many pixels of height, and of width, one latent position stands for.
    fn downsample_factor(&self) -> usize;

    /// The shape `[f, c, h / s, w / s]` of the latent of one clip of pixels `[f, 3, h, w]`.
    ///
    /// # Errors
    ///
    /// If `height` or `width` is no multiple of the downsample factor.
    fn latent_shape(&self, frames: usize, height: usize, width: usize) -> Result<[usize; 4]> {
        let s = self.downsample_factor();
        if !height.is_multiple_of(s) || !width.is_multiple_of(s) {
            return Err(Error::Shape {
                name: "pixels".into(),
                expected: format!("height and width that are multiples of {s}"),
                got: vec![frames, 3, height, width],
            });
        }
        Ok([frames, self.latent_channels(), height / s, width / s])
    }
}
