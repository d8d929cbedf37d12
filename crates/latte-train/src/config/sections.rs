//! The sections for optimisation, the loop, samples and output.

use latte_model::diffusion::TimestepSampling;
use latte_model::model::Ancestor;
use latte_model::sampling::Sampler;
use latte_ops::Precision;
use serde::{Deserialize, Serialize};

use crate::engine::schedule::{Decay, LrSchedule};
use crate::error::{Error, Result};

/// `[optimizer]`: AdamW, its learning rate, clipping, and the moving average. Defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The learning rate after the warm-up. Default 1e-4.
    pub learning_rate: f64,
    /// Optimiser steps of the warm-up, until the full learning rate. Default 0.
    pub warmup_steps: u64,
    /// `constant` (default) or `cosine`.
    pub decay: Decay,
    /// The learning rate of the last step with `cosine`. Default 0.
    pub min_learning_rate: f64,
    /// Decay of the first and of the second moment. Default `[0.9, 0.999]`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay of every trainable parameter. Default 0.
    pub weight_decay: f64,
    /// The largest L2 norm of the whole gradient. Default 0.1; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Clipping starts after this many optimiser steps; before, the norm is only recorded. Default 20000 (FaceForensics,
    /// SkyTimelapse; the reference has 100000 for UCF101 and 500000 for Taichi-HD).
    pub start_clip_iter: u64,
    /// Decay of the moving average of the weights. Default 0.9999.
    pub ema_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            warmup_steps: 0,
            decay: Decay::Constant,
            min_learning_rate: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 0.1,
            start_clip_iter: 20_000,
            ema_decay: 0.9999,
        }
    }
}

impl OptimizerConfig {
    /// The learning rate of a run of `max_steps` optimiser steps.
    pub fn schedule(&self, max_steps: u64) -> LrSchedule {
        LrSchedule {
            peak: self.learning_rate,
            minimum: self.min_learning_rate,
            warmup_steps: self.warmup_steps,
            max_steps,
            decay: self.decay,
        }
    }

    /// Checks the values; error messages begin with `source_name`.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let not_negative = [
            ("optimizer.learning_rate", self.learning_rate),
            ("optimizer.min_learning_rate", self.min_learning_rate),
            ("optimizer.eps", self.eps),
            ("optimizer.weight_decay", self.weight_decay),
            ("optimizer.max_grad_norm", self.max_grad_norm),
        ];
        for (key, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::config(source_name, key, format!("expected a number of at least 0, got {value}")));
            }
        }
        let [beta1, beta2] = self.betas;
        for (key, value) in [("optimizer.betas", beta1), ("optimizer.betas", beta2), ("optimizer.ema_decay", self.ema_decay)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::config(source_name, key, format!("expected 0 ≤ value < 1, got {value}")));
            }
        }
        if self.min_learning_rate > self.learning_rate {
            let what = format!("{} is above learning_rate = {}", self.min_learning_rate, self.learning_rate);
            return Err(Error::config(source_name, "optimizer.min_learning_rate", what));
        }
        Ok(())
    }
}

/// `[train]`: the length of the run, its batches, its seed and its loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Clips in one forward and backward pass.
    pub batch_size: usize,
    /// Passes per optimiser step. Default 1. k passes of `batch_size` clips give the gradient of one pass of k · `batch_size` clips
    /// with less memory.
    #[serde(default = "defaults::one")]
    pub gradient_accumulation_steps: usize,
    /// The seed of all randomness of the run. Default 3407, the reference's.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// How diffusion times are drawn: `uniform` (default) or `loss_second_moment`.
    #[serde(default)]
    pub timestep_sampler: TimestepSampling,
    /// Weights the squared error of each timestep by min(SNR, γ) (see [`latte_model::diffusion::MinSnr`], whose paper has γ = 5).
    /// Default: no weights. The parts of the loss are recorded without the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_snr_gamma: Option<f64>,
    /// Offset noise: one normal value per clip and channel, with this standard deviation, is added to the noise of all frames; 0.1
    /// is usual. Default 0: none.
    #[serde(default)]
    pub offset_noise: f64,
    /// Which activations are computed again in the backward pass to save memory: `none` (default) or `block`.
    #[serde(default)]
    pub activation_checkpointing: ActivationCheckpointing,
    /// The precision of matmuls: `f32` (default) or `bf16`. Weights, gradients, sums, norms and the residual stream are always f32.
    #[serde(default)]
    pub precision: Precision,
}

/// Which activations are computed again in the backward pass to save memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationCheckpointing {
    /// None: everything is kept until the backward pass.
    #[default]
    None,
    /// Those inside each transformer block. The results are the same, bit for bit.
    Block,
}

/// `[init]`: the source of the initial weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitConfig {
    /// The kind of model that the weights come from: `dit` or `latte`.
    pub from: InitFrom,
    /// The checkpoint: a PyTorch or safetensors file, or a folder with such files.
    pub path: std::path::PathBuf,
}

/// The kind of model that initial weights come from. Tensors that do not fit are skipped, and listed when training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitFrom {
    /// An image DiT: its blocks one to one, without the label table, as in the paper.
    Dit,
    /// Another Latte.
    Latte,
}

impl From<InitFrom> for Ancestor {
    fn from(from: InitFrom) -> Self {
        match from {
            InitFrom::Dit => Self::Dit,
            InitFrom::Latte => Self::Latte,
        }
    }
}

/// `[samples]`: clips generated during training with the averaged weights, always from the same noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Optimiser steps between two rounds of samples. Default 0: none.
    pub every: u64,
    /// Clips per round, with classes in turn. Default 8.
    pub num: usize,
    /// Sampling steps. Default 50.
    pub steps: usize,
    /// The guidance scale; 1: no guidance. Default: 4, or 1 for models without classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The seed of the first clip of each class; it counts up for the others. Default 0.
    pub seed: u64,
    /// The sampler: `ddim` (default), `ddpm`, `dpm++` or another one of `latte sample --sampler`.
    pub sampler: Sampler,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self { every: 0, num: 8, steps: 50, guidance: None, seed: 0, sampler: Sampler::Ddim }
    }
}

/// `[output]`: the folder of the run, and what is kept in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// The folder of the run: `checkpoints/`, `samples/`, `tensorboard/`, `metrics.jsonl`.
    pub run: std::path::PathBuf,
    /// Optimiser steps between checkpoints. Default 1000. The last step is always saved.
    #[serde(default = "defaults::checkpoint_every")]
    pub checkpoint_every: u64,
    /// The number of checkpoints to keep. Default 3; the newest is never removed.
    #[serde(default = "defaults::keep_last")]
    pub keep_last: usize,
    /// Whether losses, speeds and samples are also written as TensorBoard event files. Default true.
    #[serde(default = "defaults::yes")]
    pub tensorboard: bool,
}

impl OutputConfig {
    /// Checks the values; error messages begin with `source_name`.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let counts = [("output.checkpoint_every", self.checkpoint_every), ("output.keep_last", self.keep_last as u64)];
        at_least_one(source_name, &counts)
    }
}

/// Checks that each of these values is at least 1.
pub(crate) fn at_least_one(source_name: &str, counts: &[(&str, u64)]) -> Result<()> {
    match counts.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(Error::config(source_name, *key, "expected at least 1, got 0")),
        None => Ok(()),
    }
}

mod defaults {
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn seed() -> u64 {
        3407
    }
    pub(super) fn checkpoint_every() -> u64 {
        1000
    }
    pub(super) fn keep_last() -> usize {
        3
    }
    pub(super) fn yes() -> bool {
        true
    }
}
