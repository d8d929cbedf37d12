//! The `[evaluation]` section of the configuration.

use std::path::PathBuf;

use latte_model::sampling::Sampler;
use serde::{Deserialize, Serialize};

/// `[evaluation]`: during training, clips are generated with the averaged weights, always from the same noise, and scored as `latte
/// eval` does. It does not change the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// The detectors: files that `latte eval import` wrote, or `random-i3d`.
    pub detectors: Vec<String>,
    /// The distance of two neighbouring frames of a real clip, in frames of the video. It should be `data.frame_interval`; there is
    /// no default, because scores depend on it.
    pub real_stride: usize,
    /// Optimiser steps between evaluations. Default 5000. The last step is always evaluated.
    #[serde(default = "defaults::every")]
    pub every: u64,
    /// Whether the untrained weights are evaluated too. Default false.
    #[serde(default)]
    pub at_start: bool,
    /// The number of generated clips, with classes in turn. Default 256. Scores of fewer clips are comparable only between steps of
    /// one run.
    #[serde(default = "defaults::num")]
    pub num: usize,
    /// The number of real clips. Default: as many as generated ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_num: Option<usize>,
    /// Another data set of the same layout to compare with, instead of `data.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<PathBuf>,
    /// Frames of a clip. Default: `data.num_frames`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// The protocol of the measurement. Default `latte`.
    #[serde(default = "defaults::protocol")]
    pub protocol: String,
    /// Sampling steps. Default 50.
    #[serde(default = "defaults::steps")]
    pub steps: usize,
    /// The guidance scale; 1: no guidance. Default: 4, or 1 for models without classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The sampler: `ddim` (default), `ddpm`, `dpm++` or another one of `latte sample --sampler`.
    #[serde(default = "defaults::sampler")]
    pub sampler: Sampler,
    /// The seed of the first clip of each class, and of the choice of real clips. Default 0.
    #[serde(default)]
    pub seed: u64,
}

impl EvaluationConfig {
    /// The first key with a wrong value, and why.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let counts = [
            ("evaluation.every", self.every),
            ("evaluation.real_stride", self.real_stride as u64),
            ("evaluation.num", self.num as u64),
            ("evaluation.steps", self.steps as u64),
            ("evaluation.real_num", self.real_num.unwrap_or(1) as u64),
            ("evaluation.frames", self.frames.unwrap_or(1) as u64),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Some((key, "expected at least 1, got 0".into()));
        }
        let nobody = "no detector is given; name files that `latte eval import` wrote, or `random-i3d`";
        self.detectors.is_empty().then(|| ("evaluation.detectors", nobody.into()))
    }
}

mod defaults {
    use latte_model::sampling::Sampler;

    pub(super) fn every() -> u64 {
        5000
    }
    pub(super) fn num() -> usize {
        256
    }
    pub(super) fn steps() -> usize {
        50
    }
    pub(super) fn protocol() -> String {
        "latte".into()
    }
    pub(super) fn sampler() -> Sampler {
        Sampler::Ddim
    }
}
