//! The `config.json` of autoencoders, with the keys of diffusers.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LatentSpace;
use crate::weights::{CONFIG, WeightFiles, read_json, refuse};
use crate::{Error, Result};

/// The configuration of an `AutoencoderKL` (the autoencoder of the Stable Diffusion family). Missing keys have diffusers' defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "the file's keys")]
pub struct KlConfig {
    /// Channels of the input pixels.
    pub in_channels: usize,
    /// Channels of the output pixels.
    pub out_channels: usize,
    /// `DownEncoderBlock2D` for each level; no other type is supported.
    pub down_block_types: Vec<String>,
    /// `UpDecoderBlock2D` for each level; no other type is supported.
    pub up_block_types: Vec<String>,
    /// Channels of each level, starting with the pixels'. Each level except the last halves height and width.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// `silu` (or `swish`, the same); no other activation is supported.
    pub act_fn: String,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// The side of the training images; not used.
    pub sample_size: Value,
    /// The factor that latents are multiplied with for diffusion.
    pub scaling_factor: f64,
    /// The shift that is subtracted from latents before scaling.
    pub shift_factor: Option<f64>,
    /// The mean of each channel of the latents, subtracted for diffusion.
    pub latents_mean: Option<Vec<f64>>,
    /// The standard deviation of each channel of the latents, divided by for diffusion.
    pub latents_std: Option<Vec<f64>>,
    /// Whether PyTorch must not use half precision; not used, because sums are always f32 here.
    pub force_upcast: bool,
    /// Whether a 1 × 1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1 × 1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the lowest level has self-attention.
    pub mid_block_add_attention: bool,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DOWN.into()],
            up_block_types: vec![UP.into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: Value::Null,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// The configuration of an `AutoencoderKLTemporalDecoder` (that of Stable Video Diffusion), whose decoder reads all frames of a
/// clip.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemporalDecoderConfig {
    /// As in [`KlConfig`].
    pub in_channels: usize,
    /// As in [`KlConfig`].
    pub out_channels: usize,
    /// As in [`KlConfig`].
    pub down_block_types: Vec<String>,
    /// As in [`KlConfig`]; multiples of 32, the number of groups of every norm.
    pub block_out_channels: Vec<usize>,
    /// As in [`KlConfig`].
    pub layers_per_block: usize,
    /// As in [`KlConfig`].
    pub latent_channels: usize,
    /// As in [`KlConfig`].
    pub sample_size: Value,
    /// As in [`KlConfig`].
    pub scaling_factor: f64,
    /// As in [`KlConfig`].
    pub force_upcast: bool,
}

impl Default for TemporalDecoderConfig {
    fn default() -> Self {
        let KlConfig { down_block_types, block_out_channels, sample_size, .. } = KlConfig::default();
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types,
            block_out_channels,
            layers_per_block: 1,
            latent_channels: 4,
            sample_size,
            scaling_factor: 0.18215,
            force_upcast: true,
        }
    }
}

const DOWN: &str = "DownEncoderBlock2D";
const UP: &str = "UpDecoderBlock2D";
/// Channels of the levels of the published autoencoders.
const PUBLISHED_LEVELS: [usize; 4] = [128, 256, 512, 512];
/// Groups of a temporal decoder's norms, which its configuration does not have.
pub(super) const TEMPORAL_GROUPS: usize = 32;

/// More than any autoencoder has: a limit for damaged or hostile files.
const MAX_CHANNELS: usize = 1 << 14;
const MAX_LEVELS: usize = 8;
const MAX_LAYERS: usize = 64;

/// The sizes that building the network needs.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) levels: Vec<usize>,
    pub(super) layers: usize,
    pub(super) latent: usize,
    pub(super) groups: usize,
    pub(super) attention: bool,
}

impl Sizes {
    /// The pixels of height, and of width, per latent position.
    pub(super) fn downsample_factor(&self) -> usize {
        1 << (self.levels.len() - 1)
    }

    fn check(self) -> Result<Self> {
        let range = |key: &str, value: usize, most: usize| match value {
            v if (1..=most).contains(&v) => Ok(()),
            v => Err(Error::config(key, format!("expected 1 to {most}, got {v}"))),
        };
        range("in_channels", self.in_channels, MAX_CHANNELS)?;
        range("out_channels", self.out_channels, MAX_CHANNELS)?;
        range("latent_channels", self.latent, MAX_CHANNELS)?;
        range("layers_per_block", self.layers, MAX_LAYERS)?;
        range("norm_num_groups", self.groups, MAX_CHANNELS)?;
        range("block_out_channels", self.levels.len(), MAX_LEVELS)?;
        for &channels in &self.levels {
            range("block_out_channels", channels, MAX_CHANNELS)?;
            if !channels.is_multiple_of(self.groups) {
                let what = format!("expected multiples of the {} groups of a norm, got {channels}", self.groups);
                return Err(Error::config("block_out_channels", what));
            }
        }
        Ok(self)
    }
}

impl KlConfig {
    /// The configuration of Stable Diffusion 1 and 2, whose latents every official checkpoint uses: 84 million parameters, 8 × 8
    /// pixels per latent position.
    pub fn stable_diffusion() -> Self {
        Self {
            down_block_types: vec![DOWN.into(); PUBLISHED_LEVELS.len()],
            up_block_types: vec![UP.into(); PUBLISHED_LEVELS.len()],
            block_out_channels: PUBLISHED_LEVELS.to_vec(),
            layers_per_block: 2,
            ..Self::default()
        }
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    ///
    /// If it is of another class, or has unknown keys or values.
    pub fn from_json(json: &Value) -> Result<Self> {
        let config: Self = parse(json, "AutoencoderKL")?;
        config.sizes()?;
        Ok(config)
    }

    /// The configuration of the autoencoder at `path`: the one that this program wrote into the file of weights, or `config.json`
    /// of a diffusers folder or beside a single file. A single file without a configuration gets [Stable
    /// Diffusion's](Self::stable_diffusion).
    ///
    /// # Errors
    ///
    /// If `path` does not exist, a folder has no configuration, or it cannot be read.
    pub fn at(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        if std::fs::metadata(path).map_err(io)?.is_dir() {
            let file = path.join(CONFIG);
            if !file.is_file() {
                return Err(refuse(path, "expected a folder with config.json beside the weights").into());
            }
            return Self::read(&file);
        }
        Self::of_file(&WeightFiles::open(path)?).map(|(config, _)| config)
    }

    /// The configuration of the autoencoder in a single file, and whether the file has one; otherwise it is Stable Diffusion's.
    pub(super) fn of_file(files: &WeightFiles) -> Result<(Self, bool)> {
        let path = files.path();
        if let Some(config) = files.config()? {
            return Ok((Self::from_json(&config).map_err(|e| refuse(path, e.to_string()))?, true));
        }
        let beside = path.with_file_name(CONFIG);
        if beside.is_file() { Ok((Self::read(&beside)?, true)) } else { Ok((Self::stable_diffusion(), false)) }
    }

    fn read(file: &Path) -> Result<Self> {
        Self::from_json(&read_json(file)?).map_err(|e| refuse(file, e.to_string()).into())
    }

    /// The pixels of height, and of width, per latent position.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn downsample_factor(&self) -> Result<usize> {
        Ok(self.sizes()?.downsample_factor())
    }

    /// The space of its latents.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        let sizes = self.sizes()?;
        let all = |value: f64| vec![value; sizes.latent];
        let shift = self.shift_factor.unwrap_or(0.0);
        let means = self.latents_mean.clone().unwrap_or_else(|| all(0.0));
        let deviations = self.latents_std.clone().unwrap_or_else(|| all(1.0));
        Ok(LatentSpace::scaled(
            sizes.downsample_factor(),
            means.into_iter().map(|mean| mean + shift).collect(),
            deviations.into_iter().map(|deviation| deviation / self.scaling_factor).collect(),
        ))
    }

    pub(super) fn sizes(&self) -> Result<Sizes> {
        block_types("down_block_types", &self.down_block_types, DOWN, self.block_out_channels.len())?;
        block_types("up_block_types", &self.up_block_types, UP, self.block_out_channels.len())?;
        if !matches!(self.act_fn.as_str(), "silu" | "swish") {
            return Err(Error::config("act_fn", format!("expected \"silu\", got \"{}\"", self.act_fn)));
        }
        scale(self.scaling_factor)?;
        if self.shift_factor.is_some_and(|shift| !shift.is_finite()) {
            return Err(Error::config("shift_factor", "expected a finite number"));
        }
        for (key, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            let Some(values) = values else { continue };
            if values.len() != self.latent_channels {
                let what =
                    format!("expected one value for each of {} latent channels, got {}", self.latent_channels, values.len());
                return Err(Error::config(key, what));
            }
            if values.iter().any(|v| !v.is_finite() || (key == "latents_std" && *v <= 0.0)) {
                return Err(Error::config(
                    key,
                    format!("expected finite (and for a deviation positive) numbers, got {values:?}"),
                ));
            }
        }
        Sizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            levels: self.block_out_channels.clone(),
            layers: self.layers_per_block,
            latent: self.latent_channels,
            groups: self.norm_num_groups,
            attention: self.mid_block_add_attention,
        }
        .check()
    }
}

impl TemporalDecoderConfig {
    /// The configuration of Stable Video Diffusion, whose encoder has the sizes of Stable Diffusion's.
    pub fn stable_video_diffusion() -> Self {
        Self {
            down_block_types: vec![DOWN.into(); PUBLISHED_LEVELS.len()],
            block_out_channels: PUBLISHED_LEVELS.to_vec(),
            layers_per_block: 2,
            ..Self::default()
        }
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    ///
    /// If it is of another class, or has unknown keys or values.
    pub fn from_json(json: &Value) -> Result<Self> {
        let config: Self = parse(json, "AutoencoderKLTemporalDecoder")?;
        config.sizes()?;
        Ok(config)
    }

    /// The space of its latents.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        let sizes = self.sizes()?;
        let deviations = vec![1.0 / self.scaling_factor; sizes.latent];
        Ok(LatentSpace::scaled(sizes.downsample_factor(), vec![0.0; sizes.latent], deviations))
    }

    pub(super) fn sizes(&self) -> Result<Sizes> {
        block_types("down_block_types", &self.down_block_types, DOWN, self.block_out_channels.len())?;
        scale(self.scaling_factor)?;
        Sizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            levels: self.block_out_channels.clone(),
            layers: self.layers_per_block,
            latent: self.latent_channels,
            groups: TEMPORAL_GROUPS,
            attention: true,
        }
        .check()
    }
}

/// Parses a configuration of `class`, without the keys about the writing program (`_class_name`, `_diffusers_version` …).
fn parse<T: DeserializeOwned>(json: &Value, class: &str) -> Result<T> {
    const KEY: &str = "autoencoder configuration";
    let Value::Object(map) = json else { return Err(Error::config(KEY, "expected a JSON object")) };
    if let Some(found) = map.get("_class_name").filter(|found| *found != class) {
        return Err(Error::config("_class_name", format!("expected \"{class}\", got {found}")));
    }
    let mut map = map.clone();
    map.retain(|key, _| !key.starts_with('_'));
    serde_json::from_value(Value::Object(map)).map_err(|e| Error::config(KEY, e.to_string()))
}

fn block_types(key: &str, found: &[String], known: &str, levels: usize) -> Result<()> {
    if found.len() == levels && found.iter().all(|name| name == known) {
        return Ok(());
    }
    let what = format!("expected \"{known}\" for each of {levels} levels of block_out_channels, got {found:?}");
    Err(Error::config(key, what))
}

fn scale(factor: f64) -> Result<()> {
    if factor.is_finite() && factor > 0.0 {
        return Ok(());
    }
    Err(Error::config("scaling_factor", format!("expected a positive number, got {factor}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(json: &Value) -> String {
        KlConfig::from_json(json).err().map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn keys_that_are_missing_have_the_values_of_diffusers() -> Result<()> {
        let config = KlConfig::from_json(&json!({"_class_name": "AutoencoderKL", "_diffusers_version": "0.42.1"}))?;
        assert_eq!(config, KlConfig::default());
        let json = json!({"block_out_channels": [32, 64], "down_block_types": [DOWN, DOWN], "latent_channels": 8});
        assert_eq!(TemporalDecoderConfig::from_json(&json)?.sizes()?.downsample_factor(), 2);
        Ok(())
    }

    #[test]
    fn what_is_not_known_or_impossible_is_refused_by_name() {
        assert!(message(&json!({"_class_name": "AutoencoderTiny"})).contains("expected \"AutoencoderKL\""));
        assert!(message(&json!({"down_block_types": ["AttnDownEncoderBlock2D"]})).starts_with("down_block_types"));
        assert!(message(&json!({"up_block_types": []})).starts_with("up_block_types"));
        assert!(message(&json!({"act_fn": "gelu"})).starts_with("act_fn"));
        assert!(message(&json!({"use_tiny_conv": true})).contains("use_tiny_conv"));
        assert!(message(&json!({"block_out_channels": [48]})).contains("multiples of the 32 groups"));
        assert!(message(&json!({"block_out_channels": [1_000_000]})).contains("1 to 16384"));
        assert!(message(&json!({"block_out_channels": [], "down_block_types": [], "up_block_types": []})).contains("got 0"));
        assert!(message(&json!({"layers_per_block": 0})).starts_with("layers_per_block"));
        assert!(message(&json!({"norm_num_groups": 0})).starts_with("norm_num_groups"));
        assert!(message(&json!({"scaling_factor": 0.0})).starts_with("scaling_factor"));
        assert!(message(&json!({"latents_mean": [0.0]})).starts_with("latents_mean"));
        assert!(message(&json!({"latents_std": [1.0, 1.0, 1.0, 0.0]})).starts_with("latents_std"));
        assert!(message(&json!([])).contains("JSON object"));
        assert!(TemporalDecoderConfig::from_json(&json!({"norm_num_groups": 8})).is_err());
    }
}
