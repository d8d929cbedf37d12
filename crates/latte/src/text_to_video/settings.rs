//! All settings that decide what a text-to-video clip looks like.

use latte_model::guidance::{Guidance, GuidedChannels};
use latte_model::vae::Tiling;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The decoder that turns latents into pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemporalDecoding {
    /// The temporal decoder, if the folder has one and the clip has more than one frame.
    Auto,
    /// The temporal decoder.
    On,
    /// The decoder of single frames.
    Off,
}

/// All settings of one clip, besides the weights: the same settings give the same clip, bit for bit, on the same processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSettings {
    /// What the clip shows.
    pub prompt: String,
    /// What the clip should not show.
    pub negative_prompt: String,
    /// The seed of its noise, as in diffusers with `torch.Generator("cpu").manual_seed(seed)`.
    pub seed: u64,
    /// Sampling steps.
    pub num_steps: usize,
    /// The guidance scale: how far predictions are pushed from the negative prompt towards the prompt; 1: no guidance.
    pub guidance_scale: f64,
    /// The timesteps at which guidance acts ([`Guidance::interval`]); a file without this key means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<[f64; 2]>,
    /// How far the deviation of guided predictions is restored ([`Guidance::rescale`]); a file without this key means 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub guidance_rescale: f64,
    /// Frames; 1 gives an image.
    pub num_frames: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// The sampler and its options, as `scheduler_config.json` has them.
    pub scheduler: Value,
    /// The sampler, by its name on the command line, if it is not the one that `scheduler` names.
    pub sampler: Option<String>,
    /// Noise added in each step of DDIM, 0 (none) to 1.
    pub eta: f64,
    /// Whether temporal blocks run; off for weights that were trained on images only.
    pub temporal_attention: bool,
    /// The decoder that turns latents into pixels.
    pub temporal_decoder: TemporalDecoding,
    /// Decode frames in tiles with this side length in pixels ([`Tiling`]): less memory, more time. Not with the temporal decoder.
    pub tile: Option<usize>,
    /// Whether prompts are cleaned as the captions of the training were.
    pub clean_caption: bool,
    /// Truncate the negative prompt to the prompt's length and mask nothing, as diffusers does for one prompt.
    pub compat_masking: bool,
    /// Frames per second of the clip.
    pub fps: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl TextSettings {
    /// Checks that the settings are possible for some model; [`TextToVideoParts::check`](super::TextToVideoParts::check) checks
    /// them for one model.
    ///
    /// # Errors
    ///
    /// One that names the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        if self.num_steps == 0 {
            return Err(Error::config("steps", "expected at least 1"));
        }
        self.guidance().check()?;
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::config("eta", format!("expected 0 to 1, got {}", self.eta)));
        }
        if self.num_frames == 0 {
            return Err(Error::config("frames", "expected at least 1"));
        }
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(Error::config("fps", format!("expected a positive number, got {}", self.fps)));
        }
        self.tiling().map(drop)
    }

    /// The tiling of frames for decoding, if any.
    ///
    /// # Errors
    ///
    /// If `tile` is not a possible tile size.
    pub fn tiling(&self) -> Result<Option<Tiling>> {
        Ok(self.tile.map(Tiling::new).transpose()?)
    }

    /// The settings that the latents depend on; the others, which only decoding and playing use, get fixed values.
    pub fn of_latents(&self) -> Self {
        Self { temporal_decoder: TemporalDecoding::Off, tile: None, fps: 1.0, ..self.clone() }
    }

    /// The guidance settings.
    pub fn guidance(&self) -> Guidance {
        Guidance {
            scale: self.guidance_scale,
            channels: GuidedChannels::All,
            interval: self.guidance_interval,
            rescale: self.guidance_rescale,
        }
    }

    /// Whether the negative prompt is used.
    pub fn is_guided(&self) -> bool {
        // As in diffusers, a scale below 1 does not guide either.
        self.guidance_scale > 1.0
    }
}
