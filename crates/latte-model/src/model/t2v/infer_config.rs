//! Infers the text-to-video transformer's configuration from the shapes of a file's tensors, and writes the `config.json` that
//! diffusers needs beside them.

use serde_json::{Value, json};

use super::config::T2vConfig;
use crate::weights::{self, TensorSource};
use crate::{Error, Result};

/// The width of the published models, which determine the values that shapes do not show.
const PUBLISHED_WIDTH: usize = 1152;

impl T2vConfig {
    /// Infers the configuration of the network whose weights `source` holds under diffusers' names, from their shapes. Frames and
    /// positions are those of the published model. So is the number of heads if the width is; otherwise `num_heads` is required.
    ///
    /// # Errors
    ///
    /// If a tensor that is needed is missing or has an impossible shape, or `num_heads` is needed.
    pub fn from_weights(source: &dyn TensorSource, num_heads: Option<usize>) -> Result<Self> {
        let of = |name: &str| {
            source
                .shape(name)
                .ok_or_else(|| Error::config(name, "there is no such tensor: these are not the weights of a LatteT2V"))
        };
        let strange = |name: &str, expected: &str, got: Vec<usize>| -> Error {
            weights::Error::Shape { name: name.into(), expected: expected.into(), got }.into()
        };
        let patches = of("pos_embed.proj.weight")?;
        let &[hidden_size, in_channels, patch_size, _] = patches.as_slice() else {
            return Err(strange("pos_embed.proj.weight", "[d, c, p, p]", patches));
        };
        let published = Self::latte_1();
        let num_attention_heads = match num_heads {
            Some(heads) => heads,
            None if hidden_size == PUBLISHED_WIDTH => published.num_attention_heads,
            None => {
                let what =
                    format!("shapes do not show how many heads a network of width {hidden_size} has; set it (`--heads N`)");
                return Err(Error::config("num_attention_heads", what));
            }
        };
        if num_attention_heads == 0 || !hidden_size.is_multiple_of(num_attention_heads) {
            let what = format!("expected a divisor of the width {hidden_size}, got {num_attention_heads}");
            return Err(Error::config("num_attention_heads", what));
        }
        let caption = of("caption_projection.linear_1.weight")?;
        let &[_, caption_channels] = caption.as_slice() else {
            return Err(strange("caption_projection.linear_1.weight", "[d, width of the text]", caption));
        };
        let output = of("proj_out.weight")?;
        let area = patch_size.saturating_mul(patch_size);
        let out_channels = match output.as_slice() {
            &[rows, _] if area > 0 && rows.is_multiple_of(area) => rows / area,
            _ => return Err(strange("proj_out.weight", "[p² · channels, d]", output)),
        };
        let has_block = |i: &usize| source.shape(&format!("transformer_blocks.{i}.scale_shift_table")).is_some();
        let num_layers = (0..source.names().len()).take_while(has_block).count();
        let config = Self {
            num_attention_heads,
            attention_head_dim: hidden_size / num_attention_heads,
            in_channels,
            out_channels,
            num_layers,
            cross_attention_dim: hidden_size,
            attention_bias: source.shape("transformer_blocks.0.attn1.to_q.bias").is_some(),
            patch_size,
            caption_channels,
            ..published
        };
        config.validate()?;
        Ok(config)
    }

    /// The `config.json` of a diffusers folder.
    pub fn to_diffusers(&self) -> Value {
        json!({
            "_class_name": "LatteTransformer3DModel",
            "activation_fn": "gelu-approximate",
            "attention_bias": self.attention_bias,
            "attention_head_dim": self.attention_head_dim,
            "caption_channels": self.caption_channels,
            "cross_attention_dim": self.cross_attention_dim,
            "dropout": 0.0,
            "in_channels": self.in_channels,
            "norm_elementwise_affine": false,
            "norm_eps": self.norm_eps,
            "norm_type": "ada_norm_single",
            "num_attention_heads": self.num_attention_heads,
            "num_embeds_ada_norm": 1000,
            "num_layers": self.num_layers,
            "out_channels": self.out_channels,
            "patch_size": self.patch_size,
            "sample_size": self.sample_size,
            "video_length": self.video_length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightFiles;

    #[test]
    fn a_folder_without_its_configuration_is_recognised() -> Result<()> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v/transformer");
        let files = WeightFiles::open(&folder)?;
        let written = T2vConfig::read(&folder.join("config.json"))?;
        let found = T2vConfig::from_weights(&files, Some(written.num_attention_heads))?;
        // The values that shapes do not show.
        let found = T2vConfig { sample_size: written.sample_size, video_length: written.video_length, ..found };
        assert_eq!(found, written);
        assert_eq!(T2vConfig::from_json(&found.to_diffusers())?, written);
        assert!(T2vConfig::from_weights(&files, None).is_err_and(|e| e.to_string().contains("--heads")));
        assert!(T2vConfig::from_weights(&files, Some(5)).is_err_and(|e| e.to_string().contains("divisor")));
        Ok(())
    }
}
