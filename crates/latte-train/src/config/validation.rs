//! The `[validation]` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[validation]`: the loss on held-out data, at fixed timesteps and with fixed noise, with the averaged weights. It does not
/// change the training, except that `fraction` takes videos away from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// The share of the data that is held out, between 0 and 1. A hash of the video's name decides, so a video stays in its part
    /// when others are added. Either this or `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// Another data set of the same layout instead of `data.path` (or of `data.latents`, if clips come from a cache).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Optimiser steps between validations. Default 1000. The last step is always validated.
    #[serde(default = "defaults::every")]
    pub every: u64,
    /// The number of clips: one of each video, and more only if there are fewer videos. Default 16.
    #[serde(default = "defaults::clips")]
    pub clips: usize,
    /// The number of timesteps at which the loss of each clip is measured: the centres of as many equal parts of the process.
    /// Default 8.
    #[serde(default = "defaults::timesteps")]
    pub timesteps: usize,
    /// The seed of windows and noise, the same in every validation. Default 0.
    #[serde(default)]
    pub seed: u64,
}

impl ValidationConfig {
    /// The first key with a wrong value, and why.
    pub(super) fn problem(&self, num_timesteps: usize) -> Option<(&'static str, String)> {
        let counts = [
            ("validation.every", self.every),
            ("validation.clips", self.clips as u64),
            ("validation.timesteps", self.timesteps as u64),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Some((key, "expected at least 1, got 0".into()));
        }
        if self.timesteps > num_timesteps {
            let what = format!("expected at most diffusion.num_timesteps = {num_timesteps}, got {}", self.timesteps);
            return Some(("validation.timesteps", what));
        }
        match (self.fraction, &self.path) {
            (None, None) => Some(("validation.fraction", "missing; please set it, or `validation.path`".into())),
            (Some(_), Some(_)) => Some(("validation.fraction", "set, and `validation.path` too; set only one of them".into())),
            (Some(fraction), None) if !(fraction > 0.0 && fraction < 1.0) => {
                Some(("validation.fraction", format!("expected a number between 0 and 1, got {fraction}")))
            }
            _ => None,
        }
    }
}

mod defaults {
    pub(super) fn every() -> u64 {
        1000
    }
    pub(super) fn clips() -> usize {
        16
    }
    pub(super) fn timesteps() -> usize {
        8
    }
}
