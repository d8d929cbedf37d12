//! Encodes pixels as latents and decodes latents. Shape letters: `b` batch, `f` frames, `c` channels, `h w` height and width.

mod config;
mod convolution;
mod frames;
mod gaussian;
mod kl;
mod layers;
mod network;
mod pixels;
mod reader;
mod setting;
mod space;
mod temporal;
mod tiles;

use candle_core::Tensor;

pub use config::{KlConfig, TemporalDecoderConfig};
pub use gaussian::DiagonalGaussian;
pub use kl::AutoencoderKl;
pub use network::KlNetwork;
pub use pixels::Pixels;
pub use setting::{AutoencoderConfig, AutoencoderFingerprint, AutoencoderKind};
pub use space::{LatentSpace, Posterior};
pub use temporal::AutoencoderKlTemporalDecoder;
pub use tiles::Tiling;

use crate::Result;
use crate::noise::TorchRng;

/// Encodes pixels as the latents for diffusion, and decodes latents to pixels.
///
/// Each frame is encoded separately: its latent does not depend on other frames. Implementations are shared between threads.
pub trait Autoencoder: Send + Sync {
    /// The space of the latents.
    fn space(&self) -> &LatentSpace;

    /// The encoder's output for each frame, from which [`LatentSpace::latents`] computes latents. It is deterministic.
    ///
    /// # Shapes
    ///
    /// `pixels` is `[b, f, 3, h, w]`, f32 in `[-1, 1]`; returns `[b, f, m, h / s, w / s]` with `m` =
    /// [`LatentSpace::moment_channels`] and `s` = [`LatentSpace::downsample_factor`].
    ///
    /// # Errors
    ///
    /// If the shape does not fit, a side is no multiple of `s`, or the device fails.
    fn clip_moments(&self, pixels: &Tensor) -> Result<Tensor>;

    /// Encodes pixels as latents, scaled for diffusion. Autoencoders that output a distribution draw from it with `rng`.
    ///
    /// # Shapes
    ///
    /// `pixels` as for [`clip_moments`](Self::clip_moments); returns `[b, f, c, h / s, w / s]` with `c` =
    /// [`LatentSpace::channels`].
    ///
    /// # Errors
    ///
    /// Those of [`clip_moments`](Self::clip_moments).
    fn encode(&self, pixels: &Tensor, rng: &mut TorchRng) -> Result<Tensor> {
        self.space().latents(&self.clip_moments(pixels)?, Posterior::Sample, rng)
    }

    /// Decodes latents to pixels.
    ///
    /// # Shapes
    ///
    /// `latent` is `[b, f, c, h, w]`; returns `[b, f, 3, h · s, w · s]`, around `[-1, 1]` but not clamped to it.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or the device fails.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;
}
