//! What a clip of a text-to-video model is to be.

use latte_model::sampling::Sampler;
use latte_ops::Precision;
use serde_json::Value;

use super::settings::TemporalDecoding;

/// A clip to be made from a text, with defaults for all that is not said.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRequest {
    /// What the clip is to show.
    pub prompt: String,
    /// What it is to stay away from.
    pub negative_prompt: String,
    /// Where its noise comes from: that of `torch.Generator("cpu").manual_seed(seed)` in diffusers.
    pub seed: u64,
    /// Steps from noise to clip.
    pub steps: usize,
    /// How far predictions are pushed from the negative prompt towards the prompt; 1 is not at all and takes half the time.
    pub guidance: f64,
    /// The timesteps at which guidance acts; `None`: all.
    pub guidance_interval: Option<[f64; 2]>,
    /// How far guided predictions are brought back to their deviation, 0 to 1.
    pub guidance_rescale: f64,
    /// Frames; 1 makes an image. `None`: as in training.
    pub frames: Option<usize>,
    /// Height and width in pixels. `None`: as in training.
    pub size: Option<[usize; 2]>,
    /// The method. `None`: that of the model's `scheduler_config.json`.
    pub sampler: Option<Sampler>,
    /// Keys of `scheduler_config.json` with other values.
    pub sampler_options: Vec<(String, Value)>,
    /// Noise added in each step of DDIM, 0 (none) to 1.
    pub eta: Option<f64>,
    /// Which decoder turns latents into pixels.
    pub temporal_decoder: TemporalDecoding,
    /// Decode frames in tiles of so many pixels, an even number of at least 16: less memory, more time.
    pub tile: Option<usize>,
    /// Whether temporal blocks run; off for weights that know images only.
    pub temporal_attention: bool,
    /// Whether prompts are cleaned as the captions of training were.
    pub clean_caption: bool,
    /// Treat text as diffusers does for a single prompt: the negative prompt is cut to the prompt's length, nothing is masked.
    pub compat_masking: bool,
    /// Frames per second of the clip.
    pub fps: f64,
    /// In which precision matrices are multiplied.
    pub precision: Precision,
}

impl TextRequest {
    /// A clip of this prompt with the defaults of diffusers: seed 0, 50 steps, guidance 7.5, the rest as the model has it.
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

    /// Something to stay away from.
    #[must_use]
    pub fn negative_prompt(self, text: impl Into<String>) -> Self {
        Self { negative_prompt: text.into(), ..self }
    }

    /// Another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Another number of steps.
    #[must_use]
    pub fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }

    /// Another guidance scale.
    #[must_use]
    pub fn guidance(self, scale: f64) -> Self {
        Self { guidance: scale, ..self }
    }

    /// Another number of frames than in training; 1 makes an image.
    #[must_use]
    pub fn frames(self, frames: usize) -> Self {
        Self { frames: Some(frames), ..self }
    }

    /// Another height and width, in pixels, than in training.
    #[must_use]
    pub fn size(self, size: [usize; 2]) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Another method than the model's own.
    #[must_use]
    pub fn sampler(self, sampler: Sampler) -> Self {
        Self { sampler: Some(sampler), ..self }
    }

    /// An option of the method, under its key in `scheduler_config.json`.
    #[must_use]
    pub fn sampler_option(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.sampler_options.push((key.into(), value.into()));
        self
    }

    /// Another precision of matmuls than f32.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }
}
