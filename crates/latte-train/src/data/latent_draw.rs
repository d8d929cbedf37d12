//! Latents of loaded clips.

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;
use latte_model::vae::{LatentSpace, Posterior};

use super::loader::ClipFrames;
use crate::error::Result;

/// Draws latents from the encoder's moments of frames.
#[derive(Debug, Clone)]
pub(crate) struct LatentDraw {
    space: LatentSpace,
    posterior: Posterior,
    /// Height and width of a latent.
    size: [usize; 2],
}

impl LatentDraw {
    pub(crate) fn new(space: LatentSpace, posterior: Posterior, size: [usize; 2]) -> Self {
        Self { space, posterior, size }
    }

    /// The latents of a clip and of the images after it, `[1, f + images, c, h, w]`.
    pub(crate) fn draw(&self, frames: ClipFrames, rng: &mut TorchRng) -> Result<Tensor> {
        // If the network works on pixels, the "moments" are the pixels.
        let (ClipFrames::Pixels(moments) | ClipFrames::Moments(moments)) = frames;
        let (channels, [h, w]) = (self.space.moment_channels(), self.size);
        let frames = moments.len() / (channels * h * w);
        let moments = Tensor::from_vec(moments, (1, frames, channels, h, w), &Device::Cpu)?; // [1, f + images, m, h, w]
        Ok(self.space.latents(&moments, self.posterior, rng)?)
    }
}
