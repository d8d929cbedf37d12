//! The configuration of a run: TOML into one struct per concern, unknown keys refused.

mod model;
mod sections;
pub(crate) mod source;

use std::path::Path;

use latte::diffusion::DiffusionConfig;
use latte::model::LatteConfig;
use serde::{Deserialize, Serialize};

pub(crate) use model::Surroundings;
pub use model::{AutoencoderConfig, AutoencoderKind, ConditionKind, ModelConfig};
pub(crate) use sections::at_least_one;
pub use sections::{
    DataConfig, DecoderChoice, FrameSize, InitConfig, InitFrom, LoopConfig, MatrixPrecision, OptimizerConfig, OutputConfig,
    Recompute, Transform,
};

use crate::error::{Error, Result};

/// A training run, in full. `[model]`, `[data]`, `[train]` and `[output]` must be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub model: ModelConfig,
    /// Where its first weights come from. Default: chance, by the official rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitConfig>,
    /// The space that it works in.
    #[serde(default)]
    pub autoencoder: AutoencoderConfig,
    /// The diffusion process and its loss. Default: the paper's.
    #[serde(default)]
    pub diffusion: DiffusionConfig,
    /// The videos.
    pub data: DataConfig,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The loop.
    pub train: LoopConfig,
    /// What is written, and where.
    pub output: OutputConfig,
}

impl TrainConfig {
    /// Reads a configuration file and applies `overrides` (`section.key=value`) to it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no TOML, a key is unknown or missing, or a value is impossible. Each names the file
    /// and the key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// As [`TrainConfig::load`], from text. `source_name` opens error messages.
    ///
    /// # Errors
    ///
    /// As [`TrainConfig::load`].
    pub fn from_toml(text: &str, source_name: &str, overrides: &[String]) -> Result<Self> {
        let mut table = source::parse_table(text, source_name)?;
        for setting in overrides {
            source::apply_override(&mut table, setting)?;
        }
        let config: Self = source::from_table(table, source_name)?;
        config.validate(source_name)?;
        Ok(config)
    }

    /// The configuration as TOML, defaults written out; reading it gives the same configuration.
    ///
    /// # Errors
    ///
    /// If a value has no TOML form (a path that is no Unicode).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::config("configuration", "", e.to_string()))
    }

    /// `[f, c, h, w]` of one clip's latent.
    ///
    /// # Errors
    ///
    /// If the autoencoder cannot work on frames of this size.
    pub fn latent_shape(&self) -> Result<[usize; 4]> {
        let [height, width] = self.data.size.height_width();
        Ok(self.autoencoder.build().latent_shape(self.data.num_frames, height, width)?)
    }

    /// The network of a run on data with `num_classes` classes.
    ///
    /// # Errors
    ///
    /// If the sections do not fit together, or not the data.
    pub fn resolve_model(&self, num_classes: usize) -> Result<LatteConfig> {
        self.resolve_model_in("configuration", num_classes)
    }

    fn resolve_model_in(&self, source_name: &str, num_classes: usize) -> Result<LatteConfig> {
        let learn_sigma = self.diffusion.variance.is_learned();
        let surroundings = Surroundings { latent: self.latent_shape()?, learn_sigma, num_classes };
        self.model.resolve(surroundings).map_err(|e| match e {
            // Keys that this file spells otherwise.
            latte::Error::Config { key, what } => match key.as_str() {
                "input_size" => Error::config(source_name, "data.size", what),
                "num_frames" => Error::config(source_name, "data.num_frames", what),
                "model" => Error::config(source_name, "model.preset", what),
                "condition.class.dropout" => Error::config(source_name, "model.class_dropout", what),
                _ => Error::config(source_name, format!("model.{key}"), what),
            },
            other => other.into(),
        })
    }

    /// Whether this describes a possible run, as far as can be said without looking at the data.
    fn validate(&self, source_name: &str) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::config(source_name, key, what));
        let counts = [
            ("train.max_steps", self.train.max_steps),
            ("train.batch_size", self.train.batch_size as u64),
            ("train.accumulate", self.train.accumulate as u64),
        ];
        at_least_one(source_name, &counts)?;
        self.data.validate(source_name)?;
        self.output.validate(source_name)?;
        self.optimizer.validate(source_name)?;
        if self.autoencoder.kind == AutoencoderKind::StableDiffusion {
            return wrong("autoencoder.kind", "training on latents is not there yet; use `pixels`".into());
        }
        if self.model.condition == ConditionKind::None && self.model.num_classes.is_some() {
            return wrong("model.num_classes", "set, but `model.condition` is `none`; set it to `class`".into());
        }
        // The number of classes is not known yet; any will do to check the rest.
        self.resolve_model_in(source_name, self.model.num_classes.unwrap_or(1)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use latte::model::{BlockLayout, Condition, PatchEmbedding};

    use super::*;

    const LEAST: &str = r#"
        [model]
        preset = "Latte-S/2"
        [data]
        path = "videos"
        size = 64
        [train]
        max_steps = 10
        batch_size = 2
        [output]
        run = "runs/x"
    "#;

    fn load(overrides: &[&str]) -> Result<TrainConfig> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        TrainConfig::from_toml(LEAST, "x.toml", &overrides)
    }

    #[test]
    fn defaults_are_the_papers() {
        let config = load(&[]).unwrap();
        let o = &config.optimizer;
        assert_eq!((o.learning_rate, o.betas, o.eps, o.weight_decay), (1e-4, [0.9, 0.999], 1e-8, 0.0));
        assert_eq!((o.ema_decay, o.clip_norm, o.start_clip_iter, o.warmup_steps), (0.9999, 0.1, 20_000, 0));
        assert_eq!((config.data.num_frames, config.data.frame_interval, config.train.seed), (16, 3, 3407));
        assert_eq!(config.diffusion, DiffusionConfig::default());
        let model = config.resolve_model(0).unwrap();
        // The latents are pixels here; everything else is the preset.
        let expected = LatteConfig { input_size: [64, 64], in_channels: 3, ..LatteConfig::preset("Latte-S/2").unwrap() };
        assert_eq!(model, expected);
    }

    #[test]
    fn what_is_written_out_is_read_back() {
        let every = [
            "model.condition=class",
            "model.num_classes=4",
            "model.patch_embedding={ compression_frame = { tubelet = 2 } }",
            "model.injection=all_tokens",
            "model.temporal_position=rope",
            "data.size=[32, 48]",
            "data.decoder=built_in",
            "data.transform=crop_resize",
            "train.recompute=block",
            "train.timestep_sampler=loss_second_moment",
            "optimizer.learning_rate=0.00012345678901234567",
        ];
        for config in [load(&[]).unwrap(), load(&every).unwrap()] {
            let text = config.to_toml().unwrap();
            assert_eq!(TrainConfig::from_toml(&text, "again", &[]).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn axes_replace_the_presets_values() {
        let model = |overrides: &[&str]| load(overrides).unwrap().resolve_model(7).unwrap();
        let preset = LatteConfig::preset("Latte-S/2").unwrap();
        let wide = model(&["model.hidden_size=192", "model.num_heads=3"]);
        assert_eq!((wide.hidden_size, wide.num_heads, wide.depth), (192, 3, preset.depth));
        let third = model(&["model.block_layout=factorised_attention"]);
        assert_eq!(third.depth, preset.clone().with_layout(BlockLayout::FactorisedAttention).depth);
        assert_eq!(model(&["model.block_layout=factorised_attention", "model.depth=3"]).depth, 3);
        assert_eq!(
            model(&["model.patch_embedding={ compression_frame = { tubelet = 4 } }"]).patch_embedding,
            PatchEmbedding::CompressionFrame { tubelet: 4 }
        );
        assert_eq!(model(&["model.condition=class"]).condition, Condition::Class { num_classes: 7, dropout: 0.1 });
        assert!(!model(&["diffusion.variance=fixed_small"]).learn_sigma);
    }

    #[test]
    fn impossible_values_are_one_line_that_names_file_and_key() {
        let cases = [
            ("model.preset=Latte-Q/2", "x.toml: model.preset: there is no `Latte-Q/2`"),
            ("model.presett=3", "x.toml: model.presett: unknown key; did you mean `preset`?"),
            ("modle.preset=3", "x.toml: modle: unknown key; did you mean `model`?"),
            ("model.num_heads=5", "x.toml: model.num_heads: expected a divisor"),
            ("model.class_dropout=1.5", "x.toml: model.class_dropout: "),
            ("model.num_classes=3", "x.toml: model.num_classes: set, but `model.condition` is `none`"),
            ("model.block_layout=late", "x.toml: model.block_layout: `late` is no choice here"),
            ("data.size=63", "x.toml: data.size: expected multiples of patch_size = 2"),
            ("data.size=big", "x.toml: data.size: expected a number of pixels or [height, width]"),
            ("data.num_frames=0", "x.toml: data.num_frames: expected at least 1, got 0"),
            ("diffusion.noise_schedul=linear", "x.toml: diffusion.noise_schedul: unknown key; did you mean `noise_schedule`?"),
            ("optimizer.learning_rate=-1", "x.toml: optimizer.learning_rate: expected a number of at least 0"),
            ("optimizer.learning_rate=nan", "x.toml: optimizer.learning_rate: expected a number of at least 0"),
            ("optimizer.betas=[0.9, 1.0]", "x.toml: optimizer.betas: expected 0 ≤ value < 1, got 1"),
            ("optimizer.min_learning_rate=1", "x.toml: optimizer.min_learning_rate: 1 is above learning_rate"),
            ("train.batch_size=-1", "x.toml: train.batch_size: "),
            ("train.max_steps=0", "x.toml: train.max_steps: expected at least 1, got 0"),
        ];
        for (setting, expected) in cases {
            let message = match setting {
                // A class dropout only counts where there are classes.
                "model.class_dropout=1.5" => load(&["model.condition=class", setting]),
                _ => load(&[setting]),
            };
            let message = message.unwrap_err().to_string();
            assert!(message.starts_with(expected) && !message.contains('\n'), "{setting}: {message}");
        }
        let missing = TrainConfig::from_toml("[model]\n", "x.toml", &[]).unwrap_err().to_string();
        assert_eq!(missing, "x.toml: data: missing; please set it");
        let axes = LEAST.replace("preset = \"Latte-S/2\"", "depth = 2");
        let missing = TrainConfig::from_toml(&axes, "x.toml", &[]).unwrap_err().to_string();
        assert_eq!(missing, "x.toml: model.patch_size: missing; please set it, or `model.preset`");
        let file = TrainConfig::load(Path::new("/nowhere/x.toml"), &[]).unwrap_err().to_string();
        assert!(file.starts_with("/nowhere/x.toml: "), "{file}");
    }
}
