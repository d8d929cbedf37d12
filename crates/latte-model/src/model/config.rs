//! The configuration of the model: every choice of the paper is a field.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The stacking of spatial and temporal attention (the paper's variants 1 to 4, §3.1 of arXiv 2401.03048).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockLayout {
    /// Variant 1, the released one: spatial and temporal blocks alternate.
    #[default]
    Interleaved,
    /// Variant 2: all spatial blocks, then all temporal ones.
    LateFusion,
    /// Variant 3: spatial attention, temporal attention and one MLP in each block. The paper does not say how its three norms
    /// are modulated; here both attentions share one (shift, scale, gate), which gives the paper's parameter count.
    FactorisedAttention,
    /// Variant 4: in each block, the first half of the heads attends within frames and the second half across frames. Projecting
    /// each half and adding the results equals one projection of the concatenated halves, which is what is computed.
    SplitHeads,
}

/// The embedding of latent frames as tokens (§3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PatchEmbedding {
    /// Each frame separately.
    #[default]
    UniformFrame,
    /// Tubelets of several frames; a transposed convolution over time restores the frames at the output. The paper does not specify
    /// the kernel; here kernel and stride are the tubelet's length in time and 1 in space. A joint image is repeated to fill a
    /// tubelet, and its output is the mean over that tubelet.
    CompressionFrame {
        /// Frames per tubelet.
        tubelet: usize,
    },
}

/// The injection of timestep and condition into the blocks (§3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injection {
    /// Shift, scale and gate of every layer are computed from them (adaLN-Zero, the paper's S-AdaLN).
    #[default]
    SAdaln,
    /// They are tokens beside those of every frame; norms have their own weights, and nothing is modulated.
    AllTokens,
}

/// The condition of the model, besides the timestep.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// A class label. With `dropout > 0` the table has one more row, `num_classes`: the null label of guidance.
    Class {
        /// The number of classes.
        num_classes: usize,
        /// The probability that training replaces a label by the null label.
        dropout: f64,
    },
    /// The embeddings of all tokens of a text, concatenated and projected to one vector.
    Text {
        /// Tokens per text.
        length: usize,
        /// Values per token.
        width: usize,
    },
}

/// The temporal position embedding (§3.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemporalPosition {
    /// A sine-cosine table is added to the tokens once, before the first block with temporal attention.
    #[default]
    Absolute,
    /// Queries and keys of temporal attention are rotated by the frame's index.
    Rope,
}

/// The full configuration of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatteConfig {
    /// Height and width of a latent frame. Other sizes work too; this is the size of the stored positions.
    pub input_size: [usize; 2],
    /// Frames of a clip. Other numbers work too; this is the number of the stored positions.
    pub num_frames: usize,
    /// Channels of a latent.
    pub in_channels: usize,
    /// Height and width of a patch.
    pub patch_size: usize,
    /// Width of a token, `d`.
    pub hidden_size: usize,
    /// The number of blocks.
    pub depth: usize,
    /// Heads per attention.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer ÷ `hidden_size`.
    pub mlp_ratio: f64,
    /// The stacking of spatial and temporal attention.
    pub block_layout: BlockLayout,
    /// The embedding of latent frames as tokens.
    pub patch_embedding: PatchEmbedding,
    /// The injection of timestep and condition into the blocks.
    pub injection: Injection,
    /// The condition of the model.
    pub condition: Condition,
    /// The temporal position embedding.
    pub temporal_position: TemporalPosition,
    /// Whether the output has variance values after the prediction.
    pub learn_sigma: bool,
}

/// The named sizes: depth, hidden size, heads (Table 1 of the paper).
pub(super) const SIZES: [(&str, usize, usize, usize); 4] =
    [("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16)];
const PATCH_SIZES: [usize; 3] = [2, 4, 8];

impl LatteConfig {
    /// The published model `Latte-{S,B,L,XL}/{2,4,8}` (`Latte-` may be left out): unconditional, 16 frames of 256² pixels in the
    /// latents of an autoencoder with a downsample factor of 8.
    ///
    /// # Errors
    ///
    /// If there is no model of this name.
    pub fn preset(name: &str) -> Result<Self> {
        let found = name.strip_prefix("Latte-").unwrap_or(name).split_once('/').and_then(|(size, patch)| {
            let size = SIZES.iter().find(|s| s.0 == size)?;
            let patch = PATCH_SIZES.into_iter().find(|p| p.to_string() == patch)?;
            Some((size, patch))
        });
        let Some((&(_, depth, hidden_size, num_heads), patch_size)) = found else {
            return Err(Error::config(
                "model",
                format!("there is no `{name}`; take Latte-{{S,B,L,XL}}/{{2,4,8}}, for example Latte-S/2"),
            ));
        };
        Ok(Self {
            input_size: [32, 32],
            num_frames: 16,
            in_channels: 4,
            patch_size,
            hidden_size,
            depth,
            num_heads,
            mlp_ratio: 4.0,
            block_layout: BlockLayout::Interleaved,
            patch_embedding: PatchEmbedding::UniformFrame,
            injection: Injection::SAdaln,
            condition: Condition::None,
            temporal_position: TemporalPosition::Absolute,
            learn_sigma: true,
        })
    }

    /// The names of all presets.
    pub fn preset_names() -> Vec<String> {
        SIZES.iter().flat_map(|s| PATCH_SIZES.iter().map(move |p| format!("Latte-{}/{p}", s.0))).collect()
    }

    /// This model in another layout with the same number of parameters (within 1 % at XL): a block of `factorised_attention` has 22
    /// d² weights while the others have 18 d², so the depth is 9/11 of theirs (23 instead of 28 at XL).
    #[must_use]
    pub fn with_layout(self, block_layout: BlockLayout) -> Self {
        let plain = if self.block_layout == BlockLayout::FactorisedAttention {
            // Presets have even depth, and 22/18 of a rounded depth rounds back to it.
            (self.depth as f64 * 11.0 / 9.0 / 2.0).round() as usize * 2
        } else {
            self.depth
        };
        let depth = match block_layout {
            BlockLayout::FactorisedAttention => (plain as f64 * 9.0 / 11.0).round() as usize,
            _ => plain,
        };
        Self { depth, block_layout, ..self }
    }

    /// Channels of the output: those of the latent, or twice as many with a learned variance.
    pub fn out_channels(&self) -> usize {
        if self.learn_sigma { 2 * self.in_channels } else { self.in_channels }
    }

    /// Values per head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Width of the MLP's hidden layer.
    pub fn mlp_size(&self) -> usize {
        (self.hidden_size as f64 * self.mlp_ratio) as usize
    }

    /// Frames per token: the tubelet's length, or 1.
    pub fn frames_per_token(&self) -> usize {
        match self.patch_embedding {
            PatchEmbedding::UniformFrame => 1,
            PatchEmbedding::CompressionFrame { tubelet } => tubelet,
        }
    }

    /// The null label, which stands for no class, if the model has one.
    pub fn null_label(&self) -> Option<u32> {
        match self.condition {
            Condition::Class { num_classes, dropout } if dropout > 0.0 => Some(num_classes as u32),
            _ => None,
        }
    }

    /// Checks that the configuration describes a valid model.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first key that is wrong, its value and the valid values.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("in_channels", self.in_channels),
            ("patch_size", self.patch_size),
            ("hidden_size", self.hidden_size),
            ("depth", self.depth),
            ("num_heads", self.num_heads),
            ("num_frames", self.num_frames),
            ("patch_embedding.tubelet", self.frames_per_token()),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(Error::config(key, "expected at least 1, got 0"));
            }
        }
        self.validate_limits()?;
        self.validate_sizes()?;
        if let Condition::Class { num_classes, dropout } = self.condition {
            if num_classes == 0 {
                return Err(Error::config("condition.class.num_classes", "expected at least 1, got 0"));
            }
            if !(0.0..=1.0).contains(&dropout) {
                return Err(Error::config("condition.class.dropout", format!("expected a probability, got {dropout}")));
            }
        }
        if let Condition::Text { length, width } = self.condition
            && (length == 0 || width == 0)
        {
            return Err(Error::config("condition.text", "expected a length and a width of at least 1"));
        }
        Ok(())
    }

    /// Limits far above every existing network: a damaged file must neither fill the memory nor make products of sizes overflow.
    fn validate_limits(&self) -> Result<()> {
        const LARGEST: usize = 1 << 20;
        const DEEPEST: usize = 1 << 12;
        let (num_classes, length, width) = match self.condition {
            Condition::Class { num_classes, .. } => (num_classes, 0, 0),
            Condition::Text { length, width } => (0, length, width),
            Condition::None => (0, 0, 0),
        };
        let most = [
            ("depth", self.depth, DEEPEST),
            ("in_channels", self.in_channels, LARGEST),
            ("patch_size", self.patch_size, LARGEST),
            ("hidden_size", self.hidden_size, LARGEST),
            ("mlp_ratio", self.mlp_size(), 64 * LARGEST),
            ("num_frames", self.num_frames, LARGEST),
            ("input_size", self.input_size[0].max(self.input_size[1]), LARGEST),
            ("condition.class.num_classes", num_classes, 64 * LARGEST),
            ("condition.text.length", length, LARGEST),
            ("condition.text.width", width, LARGEST),
        ];
        match most.into_iter().find(|(_, value, most)| value > most) {
            Some((key, value, most)) => Err(Error::config(key, format!("expected at most {most}, got {value}"))),
            None => Ok(()),
        }
    }

    fn validate_sizes(&self) -> Result<()> {
        let Self { input_size: [h, w], patch_size, hidden_size, num_heads, .. } = *self;
        if h == 0 || w == 0 || !h.is_multiple_of(patch_size) || !w.is_multiple_of(patch_size) {
            return Err(Error::config("input_size", format!("expected multiples of patch_size = {patch_size}, got {h}×{w}")));
        }
        if !hidden_size.is_multiple_of(num_heads) {
            return Err(Error::config(
                "num_heads",
                format!("expected a divisor of hidden_size = {hidden_size}, got {num_heads}"),
            ));
        }
        if !hidden_size.is_multiple_of(4) {
            return Err(Error::config(
                "hidden_size",
                format!("expected a multiple of 4 (positions need sine and cosine for rows and columns), got {hidden_size}"),
            ));
        }
        if self.mlp_size() == 0 {
            return Err(Error::config("mlp_ratio", format!("expected more than 1 / hidden_size, got {}", self.mlp_ratio)));
        }
        if self.temporal_position == TemporalPosition::Rope && !self.head_size().is_multiple_of(2) {
            return Err(Error::config(
                "temporal_position",
                format!("rope turns pairs of values, but heads have {} (hidden_size / num_heads)", self.head_size()),
            ));
        }
        let frames = self.frames_per_token();
        if !self.num_frames.is_multiple_of(frames) {
            return Err(Error::config(
                "num_frames",
                format!("expected a multiple of the tubelet's {frames} frames, got {}", self.num_frames),
            ));
        }
        match self.block_layout {
            BlockLayout::Interleaved | BlockLayout::LateFusion if !self.depth.is_multiple_of(2) => Err(Error::config(
                "depth",
                format!("expected an even number (half of the blocks are temporal), got {}", self.depth),
            )),
            BlockLayout::SplitHeads if !num_heads.is_multiple_of(2) => {
                Err(Error::config("num_heads", format!("expected an even number (split_heads halves them), got {num_heads}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut LatteConfig);

    /// The error message of a configuration that `change` has changed.
    fn said(change: Change) -> String {
        let mut config = LatteConfig::preset("Latte-S/2").unwrap();
        change(&mut config);
        config.validate().map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn sizes_of_no_network_are_refused_before_they_overflow() {
        let cases: [(Change, &str); 7] = [
            (|c| c.condition = Condition::Text { length: 1 << 32, width: 1 << 32 }, "condition.text.length"),
            (|c| c.condition = Condition::Text { length: 8, width: usize::MAX }, "condition.text.width"),
            (|c| c.condition = Condition::Class { num_classes: usize::MAX, dropout: 0.1 }, "num_classes"),
            (|c| c.hidden_size = usize::MAX & !63, "hidden_size"),
            (|c| c.depth = 1 << 40, "depth"),
            (|c| c.mlp_ratio = 1e300, "mlp_ratio"),
            (|c| c.input_size = [usize::MAX - 1, 2], "input_size"),
        ];
        for (change, key) in cases {
            let said = said(change);
            assert!(said.contains(key) && said.contains("expected at most"), "{key}: {said}");
        }
        assert!(said(|c| c.condition = Condition::Text { length: 8, width: 0 }).contains("at least 1"));
        assert_eq!(said(|c| c.condition = Condition::Text { length: 120, width: 4096 }), "");
    }
}
