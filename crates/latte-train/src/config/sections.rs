//! The sections of the configuration that are about data, optimisation, the loop and what it writes.

use latte::diffusion::TimestepSampling;
use latte::model::Ancestor;
use latte_ops::Precision;
use latte_video::{ClipWindow, Decoder, FrameRule};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lr::{Decay, LrSchedule};

/// `[data]`: which videos, and what a training clip is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The folder of videos. With classes: a sub-folder per class.
    pub path: std::path::PathBuf,
    /// Height and width of the frames that the model sees, in pixels: a number for a square, or `[height, width]`.
    pub size: FrameSize,
    /// Frames of a clip. Default 16, the paper's.
    #[serde(default = "defaults::num_frames")]
    pub num_frames: usize,
    /// Every how many frames of the video one is kept. Default 3, the paper's.
    #[serde(default = "defaults::frame_interval")]
    pub frame_interval: usize,
    /// How the frames are spread: `linspace` (the official readers' rule, the default) or `exact_stride`.
    #[serde(default)]
    pub frame_rule: FrameRule,
    /// How frames come to `size`. Default `resize_crop`.
    #[serde(default)]
    pub transform: Transform,
    /// Mirror every other clip, at random. Default false: where the direction of motion, or writing, means something, a
    /// mirrored clip is wrong. (The reference mirrors FaceForensics, UCF101 and Taichi-HD.)
    #[serde(default)]
    pub flip: bool,
    /// What decodes: `auto` (ffmpeg when it is there, the default), `built_in` or `ffmpeg`.
    #[serde(default)]
    pub decoder: DecoderChoice,
    /// Threads that decode ahead. Default 2.
    #[serde(default = "defaults::loader_threads")]
    pub loader_threads: usize,
    /// Clips that may be decoded ahead. Default 16.
    #[serde(default = "defaults::prefetch")]
    pub prefetch: usize,
    /// Memory for whole decoded videos, in MiB; what does not fit is decoded anew each time. Changes speed only.
    /// Default 512; 0 for none.
    #[serde(default = "defaults::cache_mib")]
    pub cache_mib: usize,
}

impl DataConfig {
    /// The clip window.
    pub fn window(&self) -> ClipWindow {
        ClipWindow { num_frames: self.num_frames, frame_interval: self.frame_interval, rule: self.frame_rule }
    }

    /// Whether these values are possible; `source_name` opens error messages.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let [height, width] = self.size.height_width();
        let counts = [
            ("data.size", height.min(width) as u64),
            ("data.num_frames", self.num_frames as u64),
            ("data.frame_interval", self.frame_interval as u64),
            ("data.loader_threads", self.loader_threads as u64),
            ("data.prefetch", self.prefetch as u64),
        ];
        at_least_one(source_name, &counts)
    }
}

/// The size of the frames that the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
pub enum FrameSize {
    /// As high as wide.
    Square(usize),
    /// `[height, width]`.
    HeightWidth([usize; 2]),
}

impl FrameSize {
    /// `[height, width]` in pixels.
    pub fn height_width(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::HeightWidth(size) => size,
        }
    }
}

/// How frames come to the model's size. Both are bilinear without smoothing, as the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Resize until the frame just covers the size, then cut its centre (FaceForensics, UCF101).
    #[default]
    ResizeCrop,
    /// Cut the largest centred part of the right proportions, then resize it (SkyTimelapse).
    CropResize,
}

/// What decodes video files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderChoice {
    /// The ffmpeg program when it is found, else the built-in decoders.
    #[default]
    Auto,
    /// The built-in decoders.
    BuiltIn,
    /// The ffmpeg program.
    Ffmpeg,
}

impl From<DecoderChoice> for Decoder {
    fn from(choice: DecoderChoice) -> Self {
        match choice {
            DecoderChoice::Auto => Self::Auto,
            DecoderChoice::BuiltIn => Self::BuiltIn,
            DecoderChoice::Ffmpeg => Self::Ffmpeg,
        }
    }
}

/// `[optimizer]`: AdamW, its learning rate, clipping, and the moving average. Defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The learning rate after the warm-up. Default 1e-4.
    pub learning_rate: f64,
    /// Optimiser steps until the full learning rate. Default 0.
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
    /// The largest L2 norm of the whole gradient. Default 0.1; 0 for no clipping.
    pub clip_norm: f64,
    /// Clipping begins after this many optimiser steps; before, the norm is only recorded. Default 20000 (FaceForensics,
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
            clip_norm: 0.1,
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

    /// Whether these values are possible; `source_name` opens error messages.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let not_negative = [
            ("optimizer.learning_rate", self.learning_rate),
            ("optimizer.min_learning_rate", self.min_learning_rate),
            ("optimizer.eps", self.eps),
            ("optimizer.weight_decay", self.weight_decay),
            ("optimizer.clip_norm", self.clip_norm),
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

/// `[train]`: how long, in which portions, and from which seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Clips in one forward and backward pass.
    pub batch_size: usize,
    /// Passes that make one optimiser step. Default 1. `accumulate` passes of `batch_size` clips give the gradient of one
    /// pass of `accumulate · batch_size` clips, for less memory.
    #[serde(default = "defaults::one")]
    pub accumulate: usize,
    /// Where all randomness of the run comes from. Default 3407, the reference's.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// How diffusion times are drawn: `uniform` (default) or `loss_second_moment`.
    #[serde(default)]
    pub timestep_sampler: TimestepSampling,
    /// Which intermediate results are computed twice to save memory: `none` (default) or `block`.
    #[serde(default)]
    pub recompute: Recompute,
    /// In which precision matrix products are formed: `f32` (default) or `bf16`. Weights, gradients, sums, norms and the
    /// residual stream are f32 always.
    #[serde(default)]
    pub precision: MatrixPrecision,
}

/// In which precision matrix products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatrixPrecision {
    /// f32 operands.
    #[default]
    F32,
    /// Operands rounded to bfloat16, products accumulated in f32.
    Bf16,
}

impl From<MatrixPrecision> for Precision {
    fn from(precision: MatrixPrecision) -> Self {
        match precision {
            MatrixPrecision::F32 => Self::F32,
            MatrixPrecision::Bf16 => Self::Bf16,
        }
    }
}

/// Which intermediate results are computed twice to save memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// None: everything is kept until the backward pass.
    #[default]
    None,
    /// Those inside each transformer block. Same results, bit for bit.
    Block,
}

/// `[init]`: where the network's first weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitConfig {
    /// Whose weights they are: `dit` or `latte`.
    pub from: InitFrom,
    /// The checkpoint: a file of PyTorch or safetensors, or a folder of such.
    pub path: std::path::PathBuf,
}

/// Whose weights a network starts from. Tensors that do not fit are left out, and named when training starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitFrom {
    /// An image DiT's: its blocks one to one, the label table left out, as the paper does.
    Dit,
    /// Another Latte's.
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

/// `[output]`: where the run is written, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// The folder of the run: `checkpoints/`, `metrics.jsonl`.
    pub run: std::path::PathBuf,
    /// Optimiser steps between checkpoints. Default 1000. The last step is always saved.
    #[serde(default = "defaults::checkpoint_every")]
    pub checkpoint_every: u64,
    /// How many checkpoints are kept. Default 3; the newest is never removed.
    #[serde(default = "defaults::keep_last")]
    pub keep_last: usize,
}

impl OutputConfig {
    /// Whether these values are possible; `source_name` opens error messages.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let counts = [("output.checkpoint_every", self.checkpoint_every), ("output.keep_last", self.keep_last as u64)];
        at_least_one(source_name, &counts)
    }
}

/// Whether each of these values is at least 1.
pub(crate) fn at_least_one(source_name: &str, counts: &[(&str, u64)]) -> Result<()> {
    match counts.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(Error::config(source_name, *key, "expected at least 1, got 0")),
        None => Ok(()),
    }
}

mod defaults {
    pub(super) fn num_frames() -> usize {
        16
    }
    pub(super) fn frame_interval() -> usize {
        3
    }
    pub(super) fn loader_threads() -> usize {
        2
    }
    pub(super) fn prefetch() -> usize {
        16
    }
    pub(super) fn cache_mib() -> usize {
        512
    }
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
}
