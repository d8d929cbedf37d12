//! The `[model]` section of the configuration.

use latte_model::model::{BlockLayout, Condition, Injection, LatteConfig, PatchEmbedding, TemporalPosition};
use serde::{Deserialize, Serialize};

/// `[model]`: the network. Either a `preset`, or `patch_size`, `hidden_size`, `depth` and `num_heads`; a value that is set replaces
/// the preset's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A published size: `Latte-{S,B,L,XL}/{2,4,8}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Height and width of a patch, in latent positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<usize>,
    /// Width of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// The number of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Heads per attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_heads: Option<usize>,
    /// Width of the MLP's hidden layer ÷ `hidden_size`. Default 4, the paper's.
    #[serde(default = "four")]
    pub mlp_ratio: f64,
    /// The order of spatial and temporal attention. Default `interleaved`, the paper's best. With a preset and another layout, the
    /// depth is the one with the same number of parameters, unless `depth` is set.
    #[serde(default)]
    pub block_layout: BlockLayout,
    /// How frames become tokens. Default `uniform_frame`; or `{ compression_frame = { tubelet = 2 } }`.
    #[serde(default)]
    pub patch_embedding: PatchEmbedding,
    /// How timestep and class enter the blocks. Default `s_adaln`.
    #[serde(default)]
    pub injection: Injection,
    /// How temporal attention encodes the order of frames. Default `absolute`.
    #[serde(default)]
    pub temporal_position: TemporalPosition,
    /// `none` (default) or `class`: one sub-folder of the data per class.
    #[serde(default)]
    pub condition: ConditionKind,
    /// The number of classes. Default: that of the data; if it is set, the data must have as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// The probability that training replaces a label by the null label, for guidance. Default 0.1, the paper's.
    #[serde(default = "tenth")]
    pub class_dropout: f64,
}

fn four() -> f64 {
    4.0
}

fn tenth() -> f64 {
    0.1
}

/// The condition of the network besides the timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// Nothing.
    #[default]
    None,
    /// The class of the clip.
    Class,
}

/// What the data and the other sections decide about the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataShape {
    /// `[f, c, h, w]` of a clip's latent.
    pub(crate) latent: [usize; 4],
    pub(crate) learn_sigma: bool,
    /// Classes of the data.
    pub(crate) num_classes: usize,
}

impl ModelConfig {
    /// Height and width of a patch, if they are known.
    pub(super) fn patch_side(&self) -> usize {
        let of_preset = || Some(LatteConfig::preset(self.preset.as_deref()?).ok()?.patch_size);
        self.patch_size.or_else(of_preset).unwrap_or(1).max(1)
    }

    /// The complete configuration of the network.
    pub(crate) fn resolve(&self, data: DataShape) -> latte_model::Result<LatteConfig> {
        let wrong = |key: &str, what: String| latte_model::Error::Config { key: key.into(), what };
        let preset = self.preset.as_deref().map(LatteConfig::preset).transpose()?;
        let axis = |key: &str, written: Option<usize>, of_preset: Option<usize>| {
            written.or(of_preset).ok_or_else(|| wrong(key, "missing; please set it, or `model.preset`".into()))
        };
        let laid_out = preset.clone().map(|p| p.with_layout(self.block_layout));
        let condition = match self.condition {
            ConditionKind::None => Condition::None,
            ConditionKind::Class => {
                let found = data.num_classes;
                if let Some(written) = self.num_classes
                    && written != found
                {
                    return Err(wrong("num_classes", format!("{written} is written, but the data has {found} classes")));
                }
                Condition::Class { num_classes: found, dropout: self.class_dropout }
            }
        };
        let [num_frames, in_channels, height, width] = data.latent;
        let config = LatteConfig {
            input_size: [height, width],
            num_frames,
            in_channels,
            patch_size: axis("patch_size", self.patch_size, preset.as_ref().map(|p| p.patch_size))?,
            hidden_size: axis("hidden_size", self.hidden_size, preset.as_ref().map(|p| p.hidden_size))?,
            depth: axis("depth", self.depth, laid_out.as_ref().map(|p| p.depth))?,
            num_heads: axis("num_heads", self.num_heads, preset.as_ref().map(|p| p.num_heads))?,
            mlp_ratio: self.mlp_ratio,
            block_layout: self.block_layout,
            patch_embedding: self.patch_embedding,
            injection: self.injection,
            condition,
            temporal_position: self.temporal_position,
            learn_sigma: data.learn_sigma,
        };
        config.validate()?;
        Ok(config)
    }
}
