//! Requests to a text-to-video model.

use latte_model::sampling::Sampler;
use latte_ops::Precision;
use serde_json::Value;

use super::settings::TemporalDecoding;

/// A clip to generate from a text. Everything that is not set has a default.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRequest {
    /// What the clip shows.
    pub prompt: String,
    /// What the clip should not show.
    pub negative_prompt: String,
    /// The seed of its noise, as in diffusers with `torch.Generator("cpu").manual_seed(seed)`.
    pub seed: u64,
    /// Sampling steps.
    pub steps: usize,
    /// The guidance scale: how far predictions are pushed from the negative prompt towards the prompt; 1: no guidance, half the
    /// time.
    pub guidance: f64,
    /// The timesteps at which guidance acts ([`Guidance::interval`](latte_model::guidance::Guidance::interval)); `None`: all.
    pub guidance_interval: Option<[f64; 2]>,
    /// How far the deviation of guided predictions is restored, 0 to 1.
    pub guidance_rescale: f64,
    /// Frames; 1 gives an image. `None`: as in training.
    pub frames: Option<usize>,
    /// Height and width in pixels. `None`: as in training.
    pub size: Option<[usize; 2]>,
    /// The sampler. `None`: that of the model's `scheduler_config.json`.
    pub sampler: Option<Sampler>,
    /// Keys of `scheduler_config.json` with the values to use instead.
    pub sampler_options: Vec<(String, Value)>,
    /// Noise added in each step of DDIM, 0 (none) to 1.
    pub eta: Option<f64>,
    /// The decoder that turns latents into pixels.
    pub temporal_decoder: TemporalDecoding,
    /// Decode frames in tiles with this side length in pixels, an even number of at least 16: less memory, more time.
    pub tile: Option<usize>,
    /// Whether temporal blocks run; off for weights that were trained on images only.
    pub temporal_attention: bool,
    /// Whether prompts are cleaned as the captions of the training were.
    pub clean_caption: bool,
    /// Process text as diffusers does for a single prompt: the negative prompt is truncated to the prompt's length, nothing is
    /// masked.
    pub compat_masking: bool,
    /// Frames per second of the clip.
    pub fps: f64,
    /// The precision of matmuls.
    pub precision: Precision,
}

impl TextRequest {
    /// A clip of this prompt with the defaults of diffusers: seed 0, 50 steps, guidance scale 7.5; everything else as the model has
    /// it.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            seed: 0,
            steps: 50,
            guidance: 7.5,
            guidance_interval: None,
            guidance_rescale: 0.0,
            frames: None,
            size: None,
            sampler: None,
            sampler_options: Vec::new(),
            eta: None,
            temporal_decoder: TemporalDecoding::Auto,
            tile: None,
            temporal_attention: true,
            clean_caption: true,
            compat_masking: false,
            fps: 8.0,
            precision: Precision::F32,
        }
    }

    /// Sets the negative prompt.
    #[must_use]
    pub fn negative_prompt(self, text: impl Into<String>) -> Self {
        Self { negative_prompt: text.into(), ..self }
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of sampling steps.
    #[must_use]
    pub fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }

    /// Sets the guidance scale.
    #[must_use]
    pub fn guidance(self, scale: f64) -> Self {
        Self { guidance: scale, ..self }
    }

    /// Sets the number of frames; 1 gives an image.
    #[must_use]
    pub fn frames(self, frames: usize) -> Self {
        Self { frames: Some(frames), ..self }
    }

    /// Sets height and width in pixels.
    #[must_use]
    pub fn size(self, size: [usize; 2]) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Sets the sampler.
    #[must_use]
    pub fn sampler(self, sampler: Sampler) -> Self {
        Self { sampler: Some(sampler), ..self }
    }

    /// Sets an option of the sampler, under its key in `scheduler_config.json`.
    #[must_use]
    pub fn sampler_option(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.sampler_options.push((key.into(), value.into()));
        self
    }

    /// Sets the precision of matmuls.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }
}
