//! The section of the configuration that is about scores of clips.

use std::path::PathBuf;

use latte_model::sampling::Sampler;
use serde::{Deserialize, Serialize};

/// `[evaluation]`: clips from the moving average of the weights are made while training goes on, always from the same noise, and
/// judged as `latte eval` does. Changes nothing about the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// What judges: files that `latte eval import` wrote, or `random-i3d`.
    pub detectors: Vec<String>,
    /// Every how many frames of a real video one is taken. It should be `data.frame_interval`; there is no default, since scores
    /// depend on it.
    pub real_stride: usize,
    /// Optimiser steps between evaluations. Default 5000. The last step is always evaluated.
    #[serde(default = "defaults::every")]
    pub every: u64,
    /// Whether the untrained weights are evaluated, too. Default false.
    #[serde(default)]
    pub at_start: bool,
    /// Clips that are made; the classes take turns. Default 256. Scores of fewer are for comparing steps of one run only.
    #[serde(default = "defaults::num")]
    pub num: usize,
    /// Real clips that they are compared with. Default: as many as are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_num: Option<usize>,
    /// Another data set to compare with, of the same layout, in the place of `data.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<PathBuf>,
    /// Frames of a clip. Default: `data.num_frames`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// Whose way of measuring. Default `latte`.
    #[serde(default = "defaults::protocol")]
    pub protocol: String,
    /// Timesteps that the sampler visits. Default 50.
    #[serde(default = "defaults::steps")]
    pub steps: usize,
    /// How far clips are pushed towards their class; 1 is not at all. Default: 4, or 1 for models without classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The sampling method: `ddim` (default), `ddpm`, `dpm++` or another one of `latte sample --sampler`.
    #[serde(default = "defaults::sampler")]
    pub sampler: Sampler,
    /// The seed of the first clip of each class, and of the choice of real clips. Default 0.
    #[serde(default)]
    pub seed: u64,
}

impl EvaluationConfig {
    /// The key that is wrong, and why.
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
        let nobody = "nobody judges; name files that `latte eval import` wrote, or `random-i3d`";
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
