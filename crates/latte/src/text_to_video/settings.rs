//! Everything that decides what a text-to-video clip looks like.

use latte_model::guidance::{Guidance, GuidedChannels};
use latte_model::vae::Tiling;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// Which decoder turns latents into pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemporalDecoding {
    /// The temporal decoder where the folder has one and the clip more than one frame.
    Auto,
    /// The temporal decoder.
    On,
    /// Frame by frame.
    Off,
}

/// Everything that decides what one clip looks like, besides the weights: the same settings give the same clip, bit for bit, on
/// the same processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSettings {
    /// What the clip is to show.
    pub prompt: String,
    /// What it is to stay away from.
    pub negative_prompt: String,
    /// Where its noise comes from: that of `torch.Generator("cpu").manual_seed(seed)` in diffusers.
    pub seed: u64,
    /// Steps of the sampler.
    pub num_steps: usize,
    /// How far predictions are pushed from the negative prompt towards the prompt; 1 is not at all.
    pub guidance_scale: f64,
    /// The timesteps at which guidance acts ([`Guidance::interval`]); files that do not say it mean all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<[f64; 2]>,
    /// How far guided predictions are brought back to their deviation ([`Guidance::rescale`]); files that do not say it mean 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub guidance_rescale: f64,
    /// Frames; 1 makes an image.
    pub num_frames: usize,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// The sampler and its options, as `scheduler_config.json` has them.
    pub scheduler: Value,
    /// Another sampler than the one that `scheduler` names, by its name on the command line.
    pub sampler: Option<String>,
    /// Noise added in each step of DDIM, 0 (none) to 1.
    pub eta: f64,
    /// Whether temporal blocks run; off for weights that know images only.
    pub temporal_attention: bool,
    /// Which decoder turns latents into pixels.
    pub temporal_decoder: TemporalDecoding,
    /// Decode frames in tiles of so many pixels ([`Tiling`]): less memory, more time. Not with the temporal decoder.
    pub tile: Option<usize>,
    /// Whether prompts are cleaned as the model's training captions were.
    pub clean_caption: bool,
    /// Cut the negative prompt to the prompt's length and mask nothing, as diffusers does for one prompt.
    pub compat_masking: bool,
    /// Frames per second of the clip.
    pub fps: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl TextSettings {
    /// Whether the settings are possible for any model; the model's own demands come on top.
    ///
    /// # Errors
    ///
    /// One that names the first setting that is impossible.
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

    /// How frames are cut for decoding, if they are.
    ///
    /// # Errors
    ///
    /// If there are no such tiles.
    pub fn tiling(&self) -> Result<Option<Tiling>> {
        Ok(self.tile.map(Tiling::new).transpose()?)
    }

    /// The same for all settings that have the same latents: how these are decoded and played is not in it.
    pub fn of_latents(&self) -> Self {
        Self { temporal_decoder: TemporalDecoding::Off, tile: None, fps: 1.0, ..self.clone() }
    }

    /// The guidance.
    pub fn guidance(&self) -> Guidance {
        Guidance {
            scale: self.guidance_scale,
            channels: GuidedChannels::All,
            interval: self.guidance_interval,
            rescale: self.guidance_rescale,
        }
    }

    /// Whether a negative prompt takes part.
    pub fn is_guided(&self) -> bool {
        // As diffusers has it: a scale below 1 does not guide either.
        self.guidance_scale > 1.0
    }
}
