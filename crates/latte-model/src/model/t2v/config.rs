//! The configuration of a text-to-video transformer, as in `transformer/config.json` of a diffusers folder.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::weights::read_json;
use crate::{Error, Result};

/// The configuration of a text-to-video Latte. The names are those of diffusers' `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct T2vConfig {
    /// Heads of every attention.
    pub num_attention_heads: usize,
    /// Values of a head; the hidden size is heads × this.
    pub attention_head_dim: usize,
    /// Channels of a latent.
    pub in_channels: usize,
    /// Channels of a prediction: those of a latent, or twice as many with the variance after the noise.
    pub out_channels: usize,
    /// Pairs of a spatial and a temporal block.
    pub num_layers: usize,
    /// Values of a text token in cross-attention, after the caption projection: the hidden size.
    pub cross_attention_dim: usize,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Positions are scaled to the grid of latents with this height and width.
    pub sample_size: usize,
    /// Height and width of a patch in latent values.
    pub patch_size: usize,
    /// Values of a text token in the text encoder's output.
    pub caption_channels: usize,
    /// Frames of the training clips.
    pub video_length: usize,
    /// The ε of all norms.
    pub norm_eps: f64,
}

impl T2vConfig {
    /// The published model, Latte-1: 28 pairs of blocks, 1.06 billion parameters, text tokens of T5-XXL.
    pub fn latte_1() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: 8,
            num_layers: 28,
            cross_attention_dim: 1152,
            attention_bias: true,
            sample_size: 64,
            patch_size: 2,
            caption_channels: 4096,
            video_length: 16,
            norm_eps: 1e-6,
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or describes another network.
    pub fn read(path: &Path) -> Result<Self> {
        let value = read_json(path)?;
        Self::from_json(&value).map_err(|e| Error::config(path.display().to_string(), e.to_string()))
    }

    /// Reads the keys of a `config.json`. Missing keys have diffusers' defaults; keys that do not concern this network are skipped.
    ///
    /// # Errors
    ///
    /// If a key has an impossible value, or the value of another network.
    pub fn from_json(value: &Value) -> Result<Self> {
        let number = |key: &str, default: Option<usize>| match (value.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (None | Some(Value::Null), None) => Err(Error::config(key, "is missing; expected a whole number")),
            (Some(found), _) => found
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| Error::config(key, format!("expected a whole number, got {found}"))),
        };
        // Other values of these keys belong to other networks.
        for (key, expected) in [
            ("activation_fn", Value::from("gelu-approximate")),
            ("norm_type", Value::from("ada_norm_single")),
            ("norm_elementwise_affine", Value::from(false)),
        ] {
            match value.get(key) {
                Some(found) if *found != expected => {
                    return Err(Error::config(key, format!("expected {expected}, as every Latte has, got {found}")));
                }
                _ => {}
            }
        }
        let heads = number("num_attention_heads", Some(16))?;
        let head_size = number("attention_head_dim", Some(88))?;
        let in_channels = number("in_channels", None)?;
        let config = Self {
            num_attention_heads: heads,
            attention_head_dim: head_size,
            in_channels,
            out_channels: number("out_channels", Some(in_channels))?,
            num_layers: number("num_layers", Some(1))?,
            cross_attention_dim: number("cross_attention_dim", Some(heads.saturating_mul(head_size)))?,
            attention_bias: value.get("attention_bias").and_then(Value::as_bool).unwrap_or(false),
            sample_size: number("sample_size", Some(64))?,
            patch_size: number("patch_size", None)?,
            caption_channels: number("caption_channels", None)?,
            video_length: number("video_length", Some(16))?,
            norm_eps: match value.get("norm_eps") {
                None | Some(Value::Null) => 1e-5,
                Some(eps) => eps.as_f64().ok_or_else(|| Error::config("norm_eps", format!("expected a number, got {eps}")))?,
            },
        };
        config.validate()?;
        Ok(config)
    }

    /// Values of a token.
    pub fn hidden_size(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Values of a token in a block's MLP.
    pub(super) fn mlp_size(&self) -> usize {
        4 * self.hidden_size()
    }

    /// Checks that the configuration describes a valid network.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first key that is impossible.
    pub fn validate(&self) -> Result<()> {
        // Far above every existing network; it keeps products of the sizes in a damaged file from overflowing.
        const LARGEST: usize = 1 << 16;
        // Every pair of blocks has forty names: a damaged file must not fill the memory with them.
        const MAX_LAYERS: usize = 1 << 10;
        for (key, value, most) in [
            ("num_attention_heads", self.num_attention_heads, LARGEST),
            ("attention_head_dim", self.attention_head_dim, LARGEST),
            ("in_channels", self.in_channels, LARGEST),
            ("out_channels", self.out_channels, LARGEST),
            ("num_layers", self.num_layers, MAX_LAYERS),
            ("sample_size", self.sample_size, LARGEST),
            ("patch_size", self.patch_size, LARGEST),
            ("caption_channels", self.caption_channels, LARGEST),
            ("video_length", self.video_length, LARGEST),
        ] {
            if value == 0 || value > most {
                return Err(Error::config(key, format!("expected 1 to {most}, got {value}")));
            }
        }
        let d = self.hidden_size();
        if !d.is_multiple_of(4) || d > LARGEST {
            let what = format!("num_attention_heads · attention_head_dim: expected a multiple of 4 up to {LARGEST}, got {d}");
            return Err(Error::config("attention_head_dim", what));
        }
        if self.cross_attention_dim != d {
            let what = format!("expected the hidden size {d}, which captions are projected to, got {}", self.cross_attention_dim);
            return Err(Error::config("cross_attention_dim", what));
        }
        if self.out_channels != self.in_channels && self.out_channels != 2 * self.in_channels {
            let what = format!("expected in_channels ({0}) or twice that, got {1}", self.in_channels, self.out_channels);
            return Err(Error::config("out_channels", what));
        }
        if self.sample_size < self.patch_size {
            let what = format!("expected at least the patch_size {}, got {}", self.patch_size, self.sample_size);
            return Err(Error::config("sample_size", what));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(Error::config("norm_eps", format!("expected a small positive number, got {}", self.norm_eps)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn diffusers_configuration_is_read_and_other_networks_are_refused() -> Result<()> {
        let mut value = serde_json::to_value(T2vConfig::latte_1()).unwrap_or_default();
        value["_class_name"] = json!("LatteTransformer3DModel");
        value["activation_fn"] = json!("gelu-approximate");
        value["dropout"] = json!(0.0);
        assert_eq!(T2vConfig::from_json(&value)?, T2vConfig::latte_1());
        for (key, wrong) in [
            ("activation_fn", json!("geglu")),
            ("norm_type", json!("layer_norm")),
            ("num_layers", json!(0)),
            ("num_layers", json!(u64::MAX)),
            ("num_layers", json!(1 << 16)),
            ("patch_size", json!(-2)),
            ("out_channels", json!(5)),
            ("cross_attention_dim", json!(768)),
            ("norm_eps", json!("small")),
            ("in_channels", json!(null)),
        ] {
            let mut value = value.clone();
            value[key] = wrong.clone();
            let message = T2vConfig::from_json(&value).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(key), "{key} = {wrong}: {message}");
        }
        Ok(())
    }
}
