//! Encodes clips of pixels with a frozen encoder, in the loader's threads.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;
use latte_model::vae::Autoencoder;

use crate::data::loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip};

/// The clips of another source as moments, the encoder's output for each frame. The trainer samples from the moments, so clips from
/// here and from a latent cache are the same.
pub(crate) struct EncodedSource {
    pixels: Box<dyn ClipSource>,
    autoencoder: Arc<dyn Autoencoder>,
    size: [usize; 2],
}

impl EncodedSource {
    /// Encodes clips with frames of `size`, height and width.
    pub(crate) fn new(pixels: Box<dyn ClipSource>, autoencoder: Arc<dyn Autoencoder>, size: [usize; 2]) -> Self {
        Self { pixels, autoencoder, size }
    }

    fn encoded(&self, frames: ClipFrames) -> Result<Vec<f32>, String> {
        match frames {
            ClipFrames::Pixels(pixels) => moments(self.autoencoder.as_ref(), pixels, self.size).map_err(|e| e.to_string()),
            ClipFrames::Moments(moments) => Ok(moments),
        }
    }
}

impl ClipSource for EncodedSource {
    fn num_files(&self) -> usize {
        self.pixels.num_files()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> Result<LoadedClip, String> {
        let clip = self.pixels.load(file, rng)?;
        Ok(LoadedClip { frames: ClipFrames::Moments(self.encoded(clip.frames)?), ..clip })
    }

    fn bytes_kept(&self, file: usize) -> u64 {
        self.pixels.bytes_kept(file)
    }

    fn add_images(&self, place: EpochPlace<'_>, clip: &mut LoadedClip, rng: &mut TorchRng) -> Result<Vec<String>, String> {
        let no_pixels = ClipFrames::Pixels(Vec::new());
        let mut images = LoadedClip { frames: no_pixels, label: clip.label, caption: None, image_labels: Vec::new() };
        let failed = self.pixels.add_images(place, &mut images, rng)?;
        if !images.frames.values().is_empty() {
            clip.frames.values_mut().extend(self.encoded(images.frames)?); // [f + images, m, h, w]
            clip.image_labels.extend(images.image_labels);
        }
        Ok(failed)
    }
}

/// The encoder's moments of frames `[n, 3, height, width]`: `[n, m, h, w]`.
///
/// # Errors
///
/// If the size does not fit the encoder, or memory runs out.
pub(crate) fn moments(autoencoder: &dyn Autoencoder, pixels: Vec<f32>, size: [usize; 2]) -> latte_model::Result<Vec<f32>> {
    let [height, width] = size;
    let frames = pixels.len() / (3 * height * width);
    let pixels = Tensor::from_vec(pixels, (1, frames, 3, height, width), &Device::Cpu)?; // [1, n, 3, h·s, w·s]
    Ok(autoencoder.clip_moments(&pixels)?.flatten_all()?.to_vec1()?)
}
