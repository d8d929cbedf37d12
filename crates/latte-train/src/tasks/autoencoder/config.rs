//! The configuration of an autoencoder training.

use std::path::Path;

use latte_model::vae::{AutoencoderKl, KlConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::data::write_out_layout;
use crate::config::fill::from_table;
use crate::config::source::{parse_table, with_overrides};
use crate::config::{ActivationCheckpointing, DataConfig, OptimizerConfig, OutputConfig, RunConfig, at_least_one};
use crate::error::{Error, Result};

/// The configuration of an autoencoder training. `[autoencoder]`, `[data]`, `[train]` and `[output]` are required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeTrainConfig {
    /// The network.
    pub autoencoder: VaeModelConfig,
    /// The loss.
    #[serde(default)]
    pub loss: VaeLossConfig,
    /// The videos whose frames are the training data: `num_frames` frames per clip. Labels are ignored.
    pub data: DataConfig,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The training loop.
    pub train: VaeLoopConfig,
    /// The held-out videos, for the measurement.
    #[serde(default)]
    pub validation: VaeValidationConfig,
    /// What is written, and where. The autoencoder itself is written to the folder `vae` of the run.
    pub output: OutputConfig,
}

/// `[autoencoder]`: the sizes of an `AutoencoderKL`, under the names of diffusers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeModelConfig {
    /// Channels of each level, beginning at the pixels. Each level but the last halves height and width.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more. Default 1.
    #[serde(default = "defaults::one")]
    pub layers_per_block: usize,
    /// Channels of a latent. Default 4.
    #[serde(default = "defaults::latent_channels")]
    pub latent_channels: usize,
    /// Groups of every norm; they must divide the channels of every level. Default 8.
    #[serde(default = "defaults::norm_num_groups")]
    pub norm_num_groups: usize,
    /// Whether the lowest level has self-attention. Default true.
    #[serde(default = "defaults::yes")]
    pub mid_block_add_attention: bool,
    /// Whether a 1 × 1 convolution follows the encoder. Default true.
    #[serde(default = "defaults::yes")]
    pub use_quant_conv: bool,
    /// Whether a 1 × 1 convolution precedes the decoder. Default true.
    #[serde(default = "defaults::yes")]
    pub use_post_quant_conv: bool,
}

impl VaeModelConfig {
    /// The `config.json` of diffusers for this autoencoder, with frames of `size` and latents scaled by `scaling_factor`.
    pub fn to_json(&self, size: [usize; 2], scaling_factor: f64) -> Value {
        let levels = self.block_out_channels.len();
        json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": self.block_out_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "force_upcast": false,
            "in_channels": 3,
            "latent_channels": self.latent_channels,
            "layers_per_block": self.layers_per_block,
            "mid_block_add_attention": self.mid_block_add_attention,
            "norm_num_groups": self.norm_num_groups,
            "out_channels": 3,
            "sample_size": size[0].max(size[1]),
            "scaling_factor": scaling_factor,
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
            "use_post_quant_conv": self.use_post_quant_conv,
            "use_quant_conv": self.use_quant_conv,
        })
    }

    /// The same with a scaling factor of 1, as in training.
    ///
    /// # Errors
    ///
    /// If the sizes are invalid.
    pub fn unscaled(&self) -> Result<KlConfig> {
        Ok(KlConfig::from_json(&self.to_json([1, 1], 1.0))?)
    }
}

/// `[loss]`: the training loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeLossConfig {
    /// The difference between frames: `l1` (default) or `mse`, averaged over all values.
    pub reconstruction: Reconstruction,
    /// The weight of the divergence of latents from a standard normal distribution, relative to the reconstruction, both summed
    /// over a frame. Default 1e-6, that of Stable Diffusion's autoencoder.
    pub kl_weight: f64,
}

impl Default for VaeLossConfig {
    fn default() -> Self {
        Self { reconstruction: Reconstruction::L1, kl_weight: 1e-6 }
    }
}

/// The difference between frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconstruction {
    /// The mean of absolute differences.
    #[default]
    L1,
    /// The mean of squared differences.
    Mse,
}

/// `[train]`: the length of the run, its batches and its seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeLoopConfig {
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Clips per step, with `data.num_frames` frames each.
    pub batch_size: usize,
    /// The seed of all randomness of the run. Default 3407.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Which activations are computed again in the backward pass to save memory: `none` (default) or `block` (those inside each
    /// residual block).
    #[serde(default)]
    pub activation_checkpointing: ActivationCheckpointing,
}

/// `[validation]`: the held-out videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeValidationConfig {
    /// The share of the videos that is held out, between 0 and 1; a hash of the video's name decides. Default: 0; then the
    /// autoencoder is measured on its training data.
    pub fraction: f64,
}

impl Default for VaeValidationConfig {
    fn default() -> Self {
        Self { fraction: 0.0 }
    }
}

impl VaeTrainConfig {
    /// Reads a configuration file and applies `overrides` (`section.key=value`) to it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not TOML, a key is unknown or missing, or a value is invalid. Each error names the file and
    /// the key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = latte_textfile::read(path).map_err(Error::io(path))?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// As [`VaeTrainConfig::load`], from text. Error messages begin with `source_name`.
    ///
    /// # Errors
    ///
    /// As [`VaeTrainConfig::load`].
    pub fn from_toml(text: &str, source_name: &str, overrides: &[String]) -> Result<Self> {
        let mut table = with_overrides(parse_table(text, source_name)?, source_name, overrides)?;
        write_out_layout(&mut table);
        let config: Self = from_table(table, source_name)?;
        config.validate(source_name)?;
        Ok(config)
    }

    /// The configuration as TOML with all defaults written; reading it gives the same configuration.
    ///
    /// # Errors
    ///
    /// If a value has no TOML form (a path that is not Unicode).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::config("configuration", "", e.to_string()))
    }

    fn validate(&self, source_name: &str) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::config(source_name, key, what));
        self.data.validate(source_name)?;
        self.optimizer.validate(source_name)?;
        self.output.validate(source_name)?;
        let counts = [("train.max_steps", self.train.max_steps), ("train.batch_size", self.train.batch_size as u64)];
        at_least_one(source_name, &counts)?;
        if !(self.loss.kl_weight.is_finite() && self.loss.kl_weight >= 0.0) {
            return wrong("loss.kl_weight", format!("expected a number of at least 0, got {}", self.loss.kl_weight));
        }
        if !(0.0..1.0).contains(&self.validation.fraction) {
            return wrong("validation.fraction", format!("expected 0 ≤ value < 1, got {}", self.validation.fraction));
        }
        let data = &self.data;
        let meaningless = [
            ("data.latents", data.latents.is_some()),
            ("data.joint_images", data.joint_images > 0),
            ("data.image_list", data.image_list.is_some()),
            ("data.image_path", data.image_path.is_some()),
        ];
        if let Some((key, _)) = meaningless.iter().find(|(_, set)| *set) {
            return wrong(key, "set, but an autoencoder is trained on frames of the videos; leave it out".into());
        }
        let config = self.autoencoder.unscaled().map_err(|e| match e {
            Error::Latte(latte_model::Error::Config { key, what }) => {
                Error::config(source_name, format!("autoencoder.{key}"), what)
            }
            other => other,
        })?;
        // Building the list of tensors finds the invalid sizes that the checks above do not.
        AutoencoderKl::tensors(&config)?;
        let (factor, [height, width]) = (config.downsample_factor()?, self.data.size.height_width());
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            let levels = self.autoencoder.block_out_channels.len();
            let what =
                format!("{height} × {width}, but {levels} levels of autoencoder.block_out_channels need multiples of {factor}");
            return wrong("data.size", what);
        }
        Ok(())
    }
}

impl RunConfig for VaeTrainConfig {
    fn read(path: &Path) -> Result<Self> {
        Self::load(path, &[])
    }

    fn to_toml(&self) -> Result<String> {
        self.to_toml()
    }

    fn data(&self) -> &DataConfig {
        &self.data
    }

    fn optimizer(&self) -> &OptimizerConfig {
        &self.optimizer
    }

    fn output(&self) -> &OutputConfig {
        &self.output
    }

    fn max_steps(&self) -> u64 {
        self.train.max_steps
    }

    fn seed(&self) -> u64 {
        self.train.seed
    }
}

mod defaults {
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn latent_channels() -> usize {
        4
    }
    pub(super) fn norm_num_groups() -> usize {
        8
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn seed() -> u64 {
        3407
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        [autoencoder]
        block_out_channels = [16, 32]
        [data]
        path = "videos"
        size = 32
        [train]
        max_steps = 10
        batch_size = 2
        [output]
        run = "runs/x"
    "#;

    fn load(overrides: &[&str]) -> Result<VaeTrainConfig> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        VaeTrainConfig::from_toml(LEAST, "x.toml", &overrides)
    }

    #[test]
    fn what_is_written_out_is_read_back() {
        let every = [
            "autoencoder.mid_block_add_attention=false",
            "loss.reconstruction=mse",
            "loss.kl_weight=0.00012345678901234567",
            "validation.fraction=0.25",
            "train.activation_checkpointing=block",
            "data.size=[32, 48]",
        ];
        for config in [load(&[]).unwrap(), load(&every).unwrap()] {
            let text = config.to_toml().unwrap();
            assert_eq!(VaeTrainConfig::from_toml(&text, "again", &[]).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn impossible_values_are_one_line_that_names_file_and_key() {
        let cases = [
            ("autoencoder.block_out_channels=[12]", "x.toml: autoencoder.block_out_channels: expected multiples of the 8 groups"),
            ("autoencoder.block_out_channels=[]", "x.toml: autoencoder.block_out_channels: "),
            ("autoencoder.latent_channel=3", "x.toml: autoencoder.latent_channel: unknown key; did you mean `latent_channels`?"),
            ("autoencoder.latent_channels=0", "x.toml: autoencoder.latent_channels: expected 1 to 16384, got 0"),
            ("loss.kl_weight=-1", "x.toml: loss.kl_weight: expected a number of at least 0"),
            ("loss.reconstruction=l2", "x.toml: loss.reconstruction: `l2` is not a valid value"),
            ("validation.fraction=1", "x.toml: validation.fraction: expected 0 ≤ value < 1, got 1"),
            ("data.joint_images=8", "x.toml: data.joint_images: set, but an autoencoder is trained on frames"),
            ("data.latents=cache", "x.toml: data.latents: set, but"),
            ("data.size=33", "x.toml: data.size: 33 × 33, but 2 levels"),
            ("data.num_frames=0", "x.toml: data.num_frames: expected at least 1, got 0"),
            ("train.batch_size=0", "x.toml: train.batch_size: expected at least 1, got 0"),
            ("optimizer.learning_rate=nan", "x.toml: optimizer.learning_rate: expected a number of at least 0"),
            ("output.keep_last=0", "x.toml: output.keep_last: expected at least 1, got 0"),
        ];
        for (setting, expected) in cases {
            let message = load(&[setting]).unwrap_err().to_string();
            assert!(message.starts_with(expected) && !message.contains('\n'), "{setting}: {message}");
        }
    }
}
