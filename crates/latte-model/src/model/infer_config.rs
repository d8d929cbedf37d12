//! Infers a model's configuration from the shapes of a checkpoint's tensors.

use super::config::{BlockLayout, Condition, Injection, LatteConfig, PatchEmbedding, SIZES, TemporalPosition};
use crate::weights::{self, TensorSource};
use crate::{Error, Result};

/// The paper's probability, which shapes do not show.
const CLASS_DROPOUT: f64 = 0.1;
/// The number of text tokens that the official class code flattens, assumed if it divides the width.
const TEXT_LENGTH: usize = 77;

/// Configuration values that shapes do not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConfigHints {
    /// Heads per attention; `None`: those of the published model of this width.
    pub num_heads: Option<usize>,
    /// Height and width of a latent frame; `None`: a square.
    pub input_size: Option<[usize; 2]>,
}

impl LatteConfig {
    /// Infers the configuration of the model whose weights `source` holds under the official names, from their shapes.
    ///
    /// The class dropout is assumed to be 0.1, as in the paper: the null label has its row in the table for any probability.
    ///
    /// # Errors
    ///
    /// If a tensor that is needed is missing or has an impossible shape, or a hint is needed; the message says which.
    pub fn from_weights(source: &dyn TensorSource, hints: ConfigHints) -> Result<Self> {
        let shapes = Shapes(source);
        let (hidden_size, in_channels, tubelet, patch_size) = match shapes.of("x_embedder.proj.weight")?.as_slice() {
            &[d, c, p, q] if p == q => (d, c, None, p),
            &[d, c, s, p, q] if p == q => (d, c, Some(s), p),
            other => return Err(strange("x_embedder.proj.weight", "[d, c, p, p]", other)),
        };
        if hidden_size * patch_size * in_channels == 0 {
            return Err(strange("x_embedder.proj.weight", "[d, c, p, p]", &shapes.of("x_embedder.proj.weight")?));
        }
        let has = |name: &str| source.shape(name).is_some();
        let depth = (0..source.names().len()).take_while(|index| has(&format!("blocks.{index}.attn.qkv.weight"))).count();
        let frames = source.shape("temp_embed").map(|shape| match shape.as_slice() {
            &[1, frames, _] => Ok(frames * tubelet.unwrap_or(1)),
            other => Err(strange("temp_embed", "[1, f, d]", other)),
        });
        let mlp_size = match shapes.of("blocks.0.mlp.fc1.weight")?.as_slice() {
            &[mlp, _] => mlp,
            other => return Err(strange("blocks.0.mlp.fc1.weight", "[mlp, d]", other)),
        };
        let config = Self {
            input_size: shapes.input_size(patch_size, hints)?,
            num_frames: frames.unwrap_or(Err(Error::config(
                "num_frames",
                "there is no `temp_embed`, whose shape gives the number of frames of the training clips: it may be an image model",
            )))?,
            in_channels,
            patch_size,
            hidden_size,
            depth,
            num_heads: num_heads(hidden_size, hints)?,
            mlp_ratio: mlp_size as f64 / hidden_size as f64,
            block_layout: if has("blocks.0.attn_temp.qkv.weight") {
                BlockLayout::FactorisedAttention
            } else {
                BlockLayout::Interleaved
            },
            patch_embedding: tubelet.map_or(PatchEmbedding::UniformFrame, |tubelet| PatchEmbedding::CompressionFrame { tubelet }),
            injection: if has("blocks.0.adaLN_modulation.1.weight") { Injection::SAdaln } else { Injection::AllTokens },
            condition: shapes.condition()?,
            temporal_position: TemporalPosition::Absolute,
            learn_sigma: shapes.learn_sigma(patch_size, in_channels)?,
        };
        config.validate()?;
        Ok(config)
    }
}

/// The heads of a model of width `hidden_size`.
fn num_heads(hidden_size: usize, hints: ConfigHints) -> Result<usize> {
    let known = SIZES.iter().find(|size| size.2 == hidden_size).map(|size| size.3);
    hints.num_heads.or(known).ok_or_else(|| {
        let what = format!("no published model has the width {hidden_size}, and shapes do not show the number of heads");
        Error::config("num_heads", format!("{what}; set it (`latte convert --heads N`)"))
    })
}

struct Shapes<'s>(&'s dyn TensorSource);

impl Shapes<'_> {
    fn of(&self, name: &str) -> Result<Vec<usize>> {
        self.0.shape(name).ok_or_else(|| {
            Error::config(name, "there is no such tensor: these are not the weights of a Latte, or not under the official names")
        })
    }

    fn input_size(&self, patch_size: usize, hints: ConfigHints) -> Result<[usize; 2]> {
        if let Some(size) = hints.input_size {
            return Ok(size);
        }
        let shape = self.of("pos_embed")?;
        let &[1, tokens, _] = shape.as_slice() else { return Err(strange("pos_embed", "[1, n, d]", &shape)) };
        let side = tokens.isqrt();
        if side * side != tokens || side == 0 {
            let what = format!("{tokens} tokens are not a square, and shapes do not show their rows and columns");
            return Err(Error::config("input_size", what));
        }
        Ok([side * patch_size; 2])
    }

    fn condition(&self) -> Result<Condition> {
        if let Some(shape) = self.0.shape("y_embedder.embedding_table.weight") {
            return match shape.as_slice() {
                // The last row is that of the null label.
                &[rows, _] if rows > 1 => Ok(Condition::Class { num_classes: rows - 1, dropout: CLASS_DROPOUT }),
                other => Err(strange("y_embedder.embedding_table.weight", "[classes + 1, d]", other)),
            };
        }
        match self.0.shape("text_embedding_projection.1.weight").as_deref() {
            None => Ok(Condition::None),
            Some(&[_, values]) => {
                let length = if values.is_multiple_of(TEXT_LENGTH) { TEXT_LENGTH } else { 1 };
                Ok(Condition::Text { length, width: values / length })
            }
            Some(other) => Err(strange("text_embedding_projection.1.weight", "[d, l · width]", other)),
        }
    }

    fn learn_sigma(&self, patch_size: usize, in_channels: usize) -> Result<bool> {
        let shape = self.of("final_layer.linear.weight")?;
        let area = patch_size.saturating_mul(patch_size);
        match shape.first().copied() {
            Some(rows) if rows == area.saturating_mul(2 * in_channels) => Ok(true),
            Some(rows) if rows == area.saturating_mul(in_channels) => Ok(false),
            _ => Err(strange(
                "final_layer.linear.weight",
                "[p² · channels, d] with the latent's channels or twice as many",
                &shape,
            )),
        }
    }
}

fn strange(name: &str, expected: &str, got: &[usize]) -> Error {
    weights::Error::Shape { name: name.into(), expected: expected.into(), got: got.to_vec() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Latte;
    use crate::noise::TorchRng;

    fn inferred(config: &LatteConfig, hints: ConfigHints) -> Result<LatteConfig> {
        let parameters = Latte::new(config.clone())?.init(&mut TorchRng::new(0))?;
        LatteConfig::from_weights(&parameters, hints)
    }

    fn small() -> Result<LatteConfig> {
        let preset = LatteConfig::preset("Latte-S/2")?;
        Ok(LatteConfig { input_size: [8, 8], num_frames: 4, hidden_size: 32, depth: 2, num_heads: 2, ..preset })
    }

    #[test]
    fn shapes_tell_the_model() -> Result<()> {
        let hints = ConfigHints { num_heads: Some(2), input_size: None };
        let class = Condition::Class { num_classes: 5, dropout: CLASS_DROPOUT };
        let text = Condition::Text { length: TEXT_LENGTH, width: 3 };
        for config in [
            small()?,
            LatteConfig { condition: class, ..small()? },
            LatteConfig { condition: text, ..small()? },
            LatteConfig { learn_sigma: false, patch_size: 4, mlp_ratio: 2.0, ..small()? },
            LatteConfig { block_layout: BlockLayout::FactorisedAttention, depth: 3, ..small()? },
            LatteConfig { injection: Injection::AllTokens, ..small()? },
            LatteConfig { patch_embedding: PatchEmbedding::CompressionFrame { tubelet: 2 }, ..small()? },
        ] {
            assert_eq!(inferred(&config, hints)?, config);
        }
        // Published widths determine the number of heads.
        let published = LatteConfig { hidden_size: 384, num_heads: 6, ..small()? };
        assert_eq!(inferred(&published, ConfigHints::default())?, published);
        Ok(())
    }

    #[test]
    fn what_shapes_do_not_tell_is_asked_for() -> Result<()> {
        let message = |result: Result<LatteConfig>| result.err().map(|e| e.to_string()).unwrap_or_default();
        let heads = message(inferred(&small()?, ConfigHints::default()));
        assert!(heads.contains("num_heads") && heads.contains("--heads"), "{heads}");
        let wide = LatteConfig { input_size: [4, 8], ..small()? };
        let size = message(inferred(&wide, ConfigHints { num_heads: Some(2), input_size: None }));
        assert!(size.contains("input_size"), "{size}");
        assert_eq!(inferred(&wide, ConfigHints { num_heads: Some(2), input_size: Some([4, 8]) })?, wide);
        let empty = message(LatteConfig::from_weights(&latte_ops::Parameters::new(), ConfigHints::default()));
        assert!(empty.contains("x_embedder.proj.weight"), "{empty}");
        Ok(())
    }
}
