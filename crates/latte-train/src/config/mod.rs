//! The configuration of a run: TOML with one struct per section. Unknown keys are errors.

pub(crate) mod data;
mod evaluation;
pub(crate) mod fill;
mod model;
mod official;
mod renamed;
mod run;
mod sections;
pub(crate) mod source;
mod validation;
mod yaml;

use std::path::Path;

use latte_model::diffusion::{Diffusion, DiffusionConfig, MinSnr, TimestepSpacing};
use latte_model::model::LatteConfig;
use latte_model::vae::{AutoencoderConfig, AutoencoderKind, LatentSpace};
use serde::{Deserialize, Serialize};

pub use data::{DataConfig, DecoderChoice, FrameSize};
pub use evaluation::EvaluationConfig;
pub(crate) use model::DataShape;
pub use model::{ConditionKind, ModelConfig};
pub use official::{TranslatedKey, Translation};
pub use run::RunConfig;
pub(crate) use sections::at_least_one;
pub use sections::{ActivationCheckpointing, InitConfig, InitFrom, LoopConfig, OptimizerConfig, OutputConfig, SamplesConfig};
pub use validation::ValidationConfig;

use crate::data::latents::Manifest;
use crate::error::{Error, Result};

/// The configuration of a training run. `[model]`, `[data]`, `[train]` and `[output]` are required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub model: ModelConfig,
    /// Where its initial weights come from. Default: random, by the official rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitConfig>,
    /// The space that the network works in.
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
    /// The training loop.
    pub train: LoopConfig,
    /// The loss on held-out data. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// Scores of clips that are generated during training. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationConfig>,
    /// Samples that are generated during training.
    #[serde(default)]
    pub samples: SamplesConfig,
    /// What is written, and where.
    pub output: OutputConfig,
}

impl TrainConfig {
    /// Reads a configuration file and applies `overrides` (`section.key=value`) to it. It reads no other file: whether the videos,
    /// the autoencoder and the latent cache exist is checked when they are opened.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not TOML, a key is unknown or missing, or a value is invalid. Each error names the file and
    /// the key.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = latte_textfile::read(path).map_err(Error::io(path))?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// As [`TrainConfig::load`], from text. Error messages begin with `source_name`.
    ///
    /// # Errors
    ///
    /// As [`TrainConfig::load`].
    pub fn from_toml(text: &str, source_name: &str, overrides: &[String]) -> Result<Self> {
        Self::from_table(source::parse_table(text, source_name)?, source_name, overrides)
    }

    /// The last step of every way to read a configuration.
    fn from_table(table: toml::Table, source_name: &str, overrides: &[String]) -> Result<Self> {
        let mut table = source::with_overrides(table, source_name, overrides)?;
        data::write_out_layout(&mut table);
        let config: Self = fill::from_table(table, source_name)?;
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

    /// The space that the network works in: that of the latent cache if there is one, else the autoencoder's.
    ///
    /// # Errors
    ///
    /// If the autoencoder's configuration or the cache's manifest cannot be read.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        match &self.data.latents {
            Some(folder) if Manifest::exists(folder) => Manifest::read(folder)?.header.space(),
            _ => Ok(self.autoencoder.space()?),
        }
    }

    /// `[f, c, h, w]` of one clip's latent. Reads the files of [`latent_space`](Self::latent_space).
    ///
    /// # Errors
    ///
    /// If the autoencoder cannot work on frames of this size.
    pub fn latent_shape(&self) -> Result<[usize; 4]> {
        let ([height, width], space) = (self.data.size.height_width(), self.latent_space()?);
        let factor = space.downsample_factor();
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            let what = format!("expected multiples of {factor}, the pixels of a latent position, got {height} × {width}");
            return Err(Error::config("configuration", "data.size", what));
        }
        Ok(space.latent_shape(self.data.num_frames, height, width)?)
    }

    /// Checks that the network accepts the latents of the autoencoder or of the latent cache on disk. Reading a configuration does
    /// not check this, so that a checkpoint's configuration can be read where those files are missing; opening the data does.
    ///
    /// # Errors
    ///
    /// If they do not fit, or one of them cannot be read.
    pub fn check_latents(&self) -> Result<()> {
        // The number of classes is not known yet; any number serves to check the rest.
        let resolved = self.resolve_model(self.model.num_classes.unwrap_or(1)).map(drop);
        match &self.autoencoder.path {
            // Without the autoencoder's files, its latent shape is a default, so a mismatch proves nothing.
            Some(path) if resolved.is_err() && !path.exists() => {
                self.autoencoder.existing_path().map(drop).map_err(Error::of_configuration)
            }
            _ => resolved,
        }
    }

    /// The network for data with `num_classes` classes. Reads the files of [`latent_space`](Self::latent_space).
    ///
    /// # Errors
    ///
    /// If the sections contradict each other or the data.
    pub fn resolve_model(&self, num_classes: usize) -> Result<LatteConfig> {
        self.resolve_model_in("configuration", num_classes, self.latent_shape()?)
    }

    /// Checks `found`, the number of classes of the data, against `model.num_classes`, if it is set. [`TrainConfig::resolve_model`]
    /// does the same, but needs the autoencoder.
    pub(crate) fn check_num_classes(&self, found: usize) -> Result<()> {
        match self.model.num_classes {
            Some(written) if self.model.condition == ConditionKind::Class && written != found => {
                let what = format!("{written} is written, but the data has {found} classes");
                Err(Error::config("configuration", "model.num_classes", what))
            }
            _ => Ok(()),
        }
    }

    /// The diffusion process that the run trains on, and its loss.
    ///
    /// # Errors
    ///
    /// If the process is invalid, or has no loss that `train.min_snr_gamma` could weight.
    pub fn diffusion(&self) -> Result<Diffusion> {
        let min_snr = self.train.min_snr_gamma.map(MinSnr::new).transpose()?;
        Ok(Diffusion::new(&self.diffusion, &TimestepSpacing::All)?.with_min_snr(min_snr)?)
    }

    /// The share of `data` that is held out for validation, if any.
    pub(crate) fn held_out(&self) -> Option<f64> {
        self.validation.as_ref().and_then(|validation| validation.fraction)
    }

    /// The network for latents of the shape `latent`; reads no file.
    fn resolve_model_in(&self, source_name: &str, num_classes: usize, latent: [usize; 4]) -> Result<LatteConfig> {
        let learn_sigma = self.diffusion.variance.is_learned();
        let shape = DataShape { latent, learn_sigma, num_classes };
        self.model.resolve(shape).map_err(|e| match e {
            // Keys with another name in this file.
            latte_model::Error::Config { key, what } => match key.as_str() {
                "input_size" => Error::config(source_name, "data.size", what),
                "num_frames" => Error::config(source_name, "data.num_frames", what),
                "model" => Error::config(source_name, "model.preset", what),
                "condition.class.dropout" => Error::config(source_name, "model.class_dropout", what),
                _ => Error::config(source_name, format!("model.{key}"), what),
            },
            other => other.into(),
        })
    }

    /// Checks that the configuration describes a possible run, as far as this is known without reading a file.
    fn validate(&self, source_name: &str) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::config(source_name, key, what));
        let counts = [
            ("train.max_steps", self.train.max_steps),
            ("train.batch_size", self.train.batch_size as u64),
            ("train.gradient_accumulation_steps", self.train.gradient_accumulation_steps as u64),
            ("samples.num", self.samples.num as u64),
            ("samples.steps", self.samples.steps as u64),
        ];
        at_least_one(source_name, &counts)?;
        self.data.validate(source_name)?;
        self.output.validate(source_name)?;
        self.optimizer.validate(source_name)?;
        if !(self.train.offset_noise.is_finite() && self.train.offset_noise >= 0.0) {
            return wrong("train.offset_noise", format!("expected a number of at least 0, got {}", self.train.offset_noise));
        }
        self.diffusion().map_err(|e| match e {
            Error::Latte(latte_model::Error::Config { key, what }) if key == "min_snr_gamma" => {
                Error::config(source_name, "train.min_snr_gamma", what)
            }
            Error::Latte(latte_model::Error::Config { key, what }) => {
                Error::config(source_name, format!("diffusion.{key}"), what)
            }
            other => other,
        })?;
        if self.autoencoder.kind == AutoencoderKind::Pixels && self.autoencoder.path.is_some() {
            return wrong("autoencoder.path", "set, but `autoencoder.kind` is `pixels`; set it to `kl`".into());
        }
        if self.autoencoder.kind == AutoencoderKind::Pixels && self.data.latents.is_some() {
            return wrong("data.latents", "set, but `autoencoder.kind` is `pixels`; set it to `kl`".into());
        }
        if let Some((key, what)) = self.validation.as_ref().and_then(|v| v.problem(self.diffusion.num_timesteps)) {
            return wrong(key, what);
        }
        if let Some((key, what)) = self.evaluation.as_ref().and_then(EvaluationConfig::problem) {
            return wrong(key, what);
        }
        if self.held_out().is_some() && self.data.image_list.is_some() {
            let what = "set, and `data.image_list` too, whose images may be of videos that are held out; leave out the list (images \
                        are frames of the training videos then), or set `validation.path` instead";
            return wrong("validation.fraction", what.into());
        }
        if let Some((key, what)) = self.data.contradiction(self.model.condition == ConditionKind::Class) {
            return wrong(key, what);
        }
        if self.model.condition == ConditionKind::None && self.model.num_classes.is_some() {
            return wrong("model.num_classes", "set, but `model.condition` is `none`; set it to `class`".into());
        }
        let latent = match self.autoencoder.kind {
            AutoencoderKind::Pixels => self.latent_shape()?,
            // `check_latents` reads the real shape from files. A latent of one patch fits every network.
            AutoencoderKind::Kl => [self.data.num_frames, 1, self.model.patch_side(), self.model.patch_side()],
        };
        // The number of classes is not known yet; any number serves to check the rest.
        self.resolve_model_in(source_name, self.model.num_classes.unwrap_or(1), latent).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use latte_model::model::{BlockLayout, Condition, PatchEmbedding};
    use latte_video::{FrameRule, Transform};

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
        assert_eq!((o.ema_decay, o.max_grad_norm, o.start_clip_iter, o.warmup_steps), (0.9999, 0.1, 20_000, 0));
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
            "data.layout=ucf101",
            "data.index=videos.jsonl",
            "data.joint_images=8",
            "data.image_list=images.txt",
            "data.image_path=images",
            "data.decoder=libavcodec",
            "data.transform=crop_resize",
            "train.activation_checkpointing=block",
            "train.min_snr_gamma=5",
            "train.offset_noise=0.1",
            "validation.path=held-out",
            "evaluation={ real_stride = 3, detectors = [\"random-i3d\"], frames = 9, guidance = 2.0 }",
            "train.timestep_sampler=loss_second_moment",
            "samples.every=100",
            "samples.guidance=2.5",
            "samples.sampler=ddpm",
            "output.tensorboard=false",
            "optimizer.learning_rate=0.00012345678901234567",
        ];
        for config in [load(&[]).unwrap(), load(&every).unwrap()] {
            let text = config.to_toml().unwrap();
            assert_eq!(TrainConfig::from_toml(&text, "again", &[]).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn a_layout_decides_what_is_not_written_out() {
        let rules = |overrides: &[&str]| {
            let data = load(overrides).unwrap().data;
            (data.frame_rule, data.transform, data.flip)
        };
        assert_eq!(rules(&[]), (FrameRule::Linspace, Transform::ResizeCrop, false));
        assert_eq!(rules(&["data.layout=faceforensics"]), (FrameRule::Linspace, Transform::ResizeCrop, true));
        assert_eq!(rules(&["data.layout=ucf101"]), (FrameRule::Linspace, Transform::ResizeCrop, true));
        assert_eq!(rules(&["data.layout=skytimelapse"]), (FrameRule::OfficialStride, Transform::CropResize, false));
        assert_eq!(rules(&["data.layout=taichi_hd"]), (FrameRule::OfficialStride, Transform::None, true));
        let mine = ["data.layout=taichi_hd", "data.flip=false", "data.frame_rule=exact_stride", "data.transform=resize_crop"];
        assert_eq!(rules(&mine), (FrameRule::ExactStride, Transform::ResizeCrop, false));
        // The layout's rules are written out, so that a later change of the layout does not change a saved configuration.
        let saved = load(&["data.layout=skytimelapse"]).unwrap().to_toml().unwrap();
        assert!(saved.contains("frame_rule = \"official_stride\"") && saved.contains("transform = \"crop_resize\""), "{saved}");
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
            ("model.block_layout=late", "x.toml: model.block_layout: `late` is not a valid value"),
            ("data.size=63", "x.toml: data.size: expected multiples of patch_size = 2"),
            ("data.size=big", "x.toml: data.size: expected a number of pixels or [height, width]"),
            ("data.layout=ucf", "x.toml: data.layout: `ucf` is not a valid value"),
            ("data.transform=crop", "x.toml: data.transform: `crop` is not a valid value"),
            ("data.image_list=images.txt", "x.toml: data.image_path: missing"),
            ("data.image_path=images", "x.toml: data.image_list: missing"),
            ("data.num_frames=0", "x.toml: data.num_frames: expected at least 1, got 0"),
            ("diffusion.noise_schedul=linear", "x.toml: diffusion.noise_schedul: unknown key; did you mean `noise_schedule`?"),
            ("optimizer.learning_rate=-1", "x.toml: optimizer.learning_rate: expected a number of at least 0"),
            ("optimizer.learning_rate=nan", "x.toml: optimizer.learning_rate: expected a number of at least 0"),
            ("optimizer.betas=[0.9, 1.0]", "x.toml: optimizer.betas: expected 0 ≤ value < 1, got 1"),
            ("optimizer.min_learning_rate=1", "x.toml: optimizer.min_learning_rate: 1 is above learning_rate"),
            ("train.batch_size=-1", "x.toml: train.batch_size: "),
            ("train.offset_noise=-0.1", "x.toml: train.offset_noise: expected a number of at least 0, got -0.1"),
            ("train.min_snr_gamma=0", "x.toml: train.min_snr_gamma: expected a number above 0, got 0"),
            ("diffusion.num_timesteps=0", "x.toml: diffusion."),
            ("validation.clips=0", "x.toml: validation.clips: expected at least 1, got 0"),
            ("validation.every=5", "x.toml: validation.fraction: missing; please set it, or `validation.path`"),
            ("validation.fraction=1", "x.toml: validation.fraction: expected a number between 0 and 1, got 1"),
            ("validation={ fraction = 0.1, path = \"x\" }", "x.toml: validation.fraction: set, and `validation.path` too"),
            ("validation={ fraction = 0.1, timesteps = 1001 }", "x.toml: validation.timesteps: expected at most"),
            ("evaluation={ real_stride = 0, detectors = [\"x\"] }", "x.toml: evaluation.real_stride: expected at least 1, got 0"),
            ("evaluation={ real_stride = 1, detectors = [] }", "x.toml: evaluation.detectors: "),
            ("evaluation={ detectors = [\"x\"] }", "x.toml: evaluation.real_stride: missing"),
            ("samples.num=0", "x.toml: samples.num: expected at least 1, got 0"),
            ("samples.sampler=eulr", "x.toml: samples.sampler: "),
            ("train.max_steps=0", "x.toml: train.max_steps: expected at least 1, got 0"),
        ];
        for (setting, expected) in cases {
            let message = match setting {
                // A class dropout has an effect only with classes.
                "model.class_dropout=1.5" => load(&["model.condition=class", setting]),
                _ => load(&[setting]),
            };
            let message = message.unwrap_err().to_string();
            assert!(message.starts_with(expected) && !message.contains('\n'), "{setting}: {message}");
        }
        let two = |a: &str, b: &str| load(&[a, b, "data.image_path=images"]).unwrap_err().to_string();
        let message = two("data.layout=taichi_hd", "data.image_list=images.txt");
        assert!(message.starts_with("x.toml: data.image_list: only for `faceforensics` and `ucf101`"), "{message}");
        let message = two("data.layout=skytimelapse", "model.condition=class");
        assert!(message.starts_with("x.toml: data.layout: `skytimelapse` has no classes"), "{message}");
        let missing = TrainConfig::from_toml("[model]\n", "x.toml", &[]).unwrap_err().to_string();
        assert_eq!(missing, "x.toml: data: missing; please set it");
        let axes = LEAST.replace("preset = \"Latte-S/2\"", "depth = 2");
        let missing = TrainConfig::from_toml(&axes, "x.toml", &[]).unwrap_err().to_string();
        assert_eq!(missing, "x.toml: model.patch_size: missing; please set it, or `model.preset`");
        let file = TrainConfig::load(Path::new("/nowhere/x.toml"), &[]).unwrap_err().to_string();
        assert!(file.starts_with("/nowhere/x.toml: "), "{file}");
    }
    /// The text of a configuration with an autoencoder, a cache and videos in `folder`.
    fn with_files_in(folder: &Path) -> String {
        let at = |name: &str| folder.join(name).display().to_string();
        LEAST.replace(
            "[data]\n        path = \"videos\"",
            &format!("[data]\n        path = '{}'\nlatents = '{}'", at("videos"), at("cache")),
        ) + &format!("[autoencoder]\nkind = \"kl\"\npath = '{}'\n[validation]\npath = '{}'\n", at("vae"), at("held-out"))
    }

    #[test]
    fn reading_a_configuration_looks_at_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let read = |folder: &Path| TrainConfig::from_toml(&with_files_in(folder), "x.toml", &[]).unwrap();
        // Reading these files would fail.
        for (name, file) in [("vae", "config.json"), ("cache", "latents.jsonl")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "{ neither").unwrap();
        }
        let traps = read(folder.path());
        let gone = read(Path::new("/nowhere"));
        let moved = traps.to_toml().unwrap().replace(&folder.path().display().to_string(), "/nowhere");
        assert_eq!(moved, gone.to_toml().unwrap());
        assert_eq!(TrainConfig::from_toml(&moved, "x.toml", &[]).unwrap(), gone);

        // Opening the data reads them first.
        let of_cache = crate::open_data(&traps).unwrap_err().to_string();
        assert!(of_cache.contains(&folder.path().join("cache").display().to_string()), "{of_cache}");
        let no_cache = TrainConfig { data: DataConfig { latents: None, ..traps.data.clone() }, ..traps };
        let of_vae = crate::open_data(&no_cache).unwrap_err().to_string();
        assert!(of_vae.contains("config.json"), "{of_vae}");
    }

    #[test]
    fn a_network_is_checked_without_its_autoencoder_and_its_latents_when_the_data_is_opened() {
        let kl = ["autoencoder.kind=kl"];
        for (setting, expected) in [
            ("model.num_heads=5", "x.toml: model.num_heads: expected a divisor"),
            ("model.preset=Latte-Q/2", "x.toml: model.preset: there is no `Latte-Q/2`"),
            ("model.patch_embedding={ compression_frame = { tubelet = 3 } }", "x.toml: data.num_frames: "),
        ] {
            let message = load(&[kl[0], setting]).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        // Stable Diffusion's encoder turns 8 × 8 pixels into one latent position.
        for (size, expected) in
            [("36", "data.size: expected multiples of 8"), ("40", "data.size: expected multiples of patch_size = 2")]
        {
            let config = load(&[kl[0], &format!("data.size={size}")]).unwrap();
            let message = crate::open_data(&config).unwrap_err().to_string();
            assert!(message.starts_with(&format!("configuration: {expected}")), "{message}");
        }
        let missing = load(&[kl[0], "data.size=36", "autoencoder.path=/nowhere/vae"]).unwrap();
        let message = crate::open_data(&missing).unwrap_err().to_string();
        assert!(message.starts_with("configuration: autoencoder.path: there is no /nowhere/vae"), "{message}");
    }
}
