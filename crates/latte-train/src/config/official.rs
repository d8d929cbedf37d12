//! Translates the original's YAML files into our configuration, and reports what each key means here.
//!
//! Names and meanings are those of the original's training scripts (Vchitect/Latte, `configs/*/*_train.yaml`). A key is honoured by
//! its meaning, also where the original read it and did something else. A key that has no meaning here is listed; a key that asks
//! for something the original could not do is refused.

use std::path::Path;

use latte_model::model::LatteConfig;
use toml::{Table, Value};

use super::yaml::{Entry, Scalar, read_map};
use super::{TrainConfig, fill};
use crate::error::{Error, Result};

/// A key of the original's file, and what it means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedKey {
    /// The key.
    pub key: String,
    /// Its value, as written.
    pub value: String,
    /// For an honoured key: our keys, `section.key = value`, and any difference. For an ignored key: the reason.
    pub meaning: String,
}

/// The translation of the keys of an official configuration, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// Keys that are honoured.
    pub honoured: Vec<TranslatedKey>,
    /// Keys that had no effect in the original's training, or have none here.
    pub idle: Vec<TranslatedKey>,
}

impl Translation {
    /// The report, line by line.
    pub fn lines(&self) -> Vec<String> {
        let written = |k: &TranslatedKey| format!("{}: {}", k.key, k.value).trim_end().to_string();
        let width = self.honoured.iter().chain(&self.idle).map(|k| written(k).chars().count()).max().unwrap_or_default().min(48);
        let mut lines = Vec::new();
        for (title, keys) in [("honoured:", &self.honoured), ("without effect, in the original or here:", &self.idle)] {
            if !keys.is_empty() {
                lines.push(title.to_string());
                lines.extend(keys.iter().map(|k| format!("  {:width$}  {}", written(k), k.meaning)));
            }
        }
        lines
    }
}

impl TrainConfig {
    /// Reads an official YAML file, and applies `overrides` (`section.key=value`, our keys) to the translation.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not flat YAML, a key is unknown, missing or refused, or the result is invalid.
    pub fn load_official(path: &Path, overrides: &[String]) -> Result<(Self, Translation)> {
        let text = latte_textfile::read(path).map_err(Error::io(path))?;
        Self::from_official(&text, &path.display().to_string(), overrides)
    }

    /// As [`TrainConfig::load_official`], from text. Error messages begin with `source_name`.
    ///
    /// # Errors
    ///
    /// As [`TrainConfig::load_official`].
    pub fn from_official(text: &str, source_name: &str, overrides: &[String]) -> Result<(Self, Translation)> {
        let mut translator =
            Translator { source_name, entries: read_map(text, source_name)?, table: Table::new(), said: Translation::default() };
        translator.translate()?;
        let config = Self::from_table(translator.table, source_name, overrides)?;
        Ok((config, translator.said))
    }
}

/// The data sets of the original: its name, our layout, and whether it appends single images.
const DATASETS: [(&str, &str, bool); 8] = [
    ("ffs", "faceforensics", false),
    ("ffs_img", "faceforensics", true),
    ("sky", "skytimelapse", false),
    ("sky_img", "skytimelapse", true),
    ("ucf101", "ucf101", false),
    ("ucf101_img", "ucf101", true),
    ("taichi", "taichi_hd", false),
    ("taichi_img", "taichi_hd", true),
];

/// The required keys.
const REQUIRED: [&str; 7] =
    ["dataset", "data_path", "pretrained_model_path", "model", "image_size", "local_batch_size", "max_train_steps"];

/// All keys that training files have.
const KNOWN: [&str; 36] = [
    "dataset",
    "data_path",
    "frame_data_path",
    "frame_data_txt",
    "pretrained_model_path",
    "results_dir",
    "pretrained",
    "model",
    "num_frames",
    "image_size",
    "num_sampling_steps",
    "frame_interval",
    "fixed_spatial",
    "attention_bias",
    "learn_sigma",
    "extras",
    "save_ceph",
    "load_from_ceph",
    "use_image_num",
    "learning_rate",
    "ckpt_every",
    "clip_max_norm",
    "start_clip_iter",
    "local_batch_size",
    "max_train_steps",
    "global_seed",
    "num_workers",
    "log_every",
    "lr_warmup_steps",
    "resume_from_checkpoint",
    "gradient_accumulation_steps",
    "num_classes",
    "use_compile",
    "mixed_precision",
    "enable_xformers_memory_efficient_attention",
    "gradient_checkpointing",
];

/// Keys that only the original's sampling files have.
const OF_SAMPLING: [&str; 20] = [
    "ckpt",
    "save_img_path",
    "use_fp16",
    "seed",
    "sample_method",
    "cfg_scale",
    "negative_name",
    "per_proc_batch_size",
    "num_fvd_samples",
    "run_time",
    "num_sample",
    "sample_names",
    "video_length",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "variance_type",
    "guidance_scale",
    "text_prompt",
    "enable_temporal_attentions",
];

struct Translator<'a> {
    source_name: &'a str,
    entries: Vec<Entry>,
    table: Table,
    said: Translation,
}

impl Translator<'_> {
    fn wrong(&self, key: &str, what: impl Into<String>) -> Error {
        Error::config(self.source_name, key, what)
    }

    fn translate(&mut self) -> Result<()> {
        for entry in &self.entries {
            let key = entry.key.as_str();
            if OF_SAMPLING.contains(&key) {
                return Err(self.wrong(key, "a key of the original's sampling files; train with one of its `*_train.yaml` files"));
            }
            if !KNOWN.contains(&key) {
                let hint = fill::nearest(key, &KNOWN).map_or_else(
                    || {
                        "unknown key; the original's training files have none such (our own keys go into a TOML file or --set)"
                            .into()
                    },
                    |near| format!("unknown key; did you mean `{near}`?"),
                );
                return Err(self.wrong(key, hint));
            }
        }
        if let Some(key) = REQUIRED.iter().find(|key| self.find(key).is_none()) {
            return Err(self.wrong(key, "missing; please set it"));
        }
        let refused: Vec<String> =
            self.entries.iter().filter_map(|entry| Some(format!("{}: {}", entry.key, refusal(entry)?))).collect();
        if let Some((first, rest)) = refused.split_first() {
            let (key, why) = first.split_once(": ").unwrap_or((first, ""));
            let also = if rest.is_empty() { String::new() } else { format!("; refused too: {}", rest.join("; ")) };
            return Err(self.wrong(key, format!("{why}{also}")));
        }
        // A missing key can make this invalid too.
        self.num_images()?;
        for entry in self.entries.clone() {
            self.one(&entry)?;
        }
        Ok(())
    }

    /// The value of a key, unless it is absent or empty.
    fn find(&self, key: &str) -> Option<&Scalar> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|value| **value != Scalar::Nothing)
    }

    /// Translates one key.
    #[expect(clippy::too_many_lines, reason = "one arm for each key, most of them one line")]
    fn one(&mut self, entry: &Entry) -> Result<()> {
        let key = entry.key.as_str();
        let passes = self.passes()?;
        match key {
            "dataset" => {
                let (_, layout, _) = self.dataset()?;
                self.set(entry, "data.layout", layout, "");
            }
            "data_path" => self.set(entry, "data.path", self.text(entry)?, ""),
            "frame_data_txt" | "frame_data_path" if self.num_images()? == 0 => {
                self.idle(entry, "only the `_img` data sets read single images");
            }
            "frame_data_txt" | "frame_data_path" if !matches!(self.dataset()?.1, "faceforensics" | "ucf101") => {
                self.idle(entry, "single images of this data set are frames of its videos");
            }
            "frame_data_txt" => self.set(entry, "data.image_list", self.text(entry)?, ""),
            "frame_data_path" => self.set(entry, "data.image_path", self.text(entry)?, ""),
            "use_image_num" if self.num_images()? == 0 => self.idle(entry, "only the `_img` data sets read single images"),
            "use_image_num" => self.set(entry, "data.joint_images", self.count(entry)?, ""),
            "pretrained_model_path" => {
                // train.py and train_with_img.py load different ones.
                let folder = if self.dataset()?.2 { "sd-vae-ft-mse" } else { "vae" };
                let path = Path::new(&self.text(entry)?).join(folder).to_string_lossy().into_owned();
                self.put("autoencoder.kind", "kl");
                self.set(entry, "autoencoder.path", path, "the one that the original's script loads");
            }
            "results_dir" => {
                let name = format!(
                    "{}-F{}S{}-{}",
                    self.preset()?.replace('/', "-"),
                    self.or("num_frames", 16)?,
                    self.or("frame_interval", 3)?,
                    self.dataset()?.0
                );
                let path = Path::new(&self.text(entry)?).join(name).to_string_lossy().into_owned();
                self.set(entry, "output.run", path, "without a running number, so that the same command resumes the run");
            }
            "pretrained" if entry.value == Scalar::Nothing => self.idle(entry, "empty"),
            "pretrained" => {
                self.put("init.from", "latte");
                self.set(
                    entry,
                    "init.path",
                    self.text(entry)?,
                    "`ema`, else `model`; steps are counted from 0, whatever the file is called",
                );
            }
            "model" => self.set(entry, "model.preset", self.preset()?, ""),
            "num_frames" => self.set(entry, "data.num_frames", self.count(entry)?, ""),
            "frame_interval" => self.set(entry, "data.frame_interval", self.count(entry)?, ""),
            "image_size" => self.set(entry, "data.size", self.count(entry)?, ""),
            "learn_sigma" if self.flag(entry)? => self.set(entry, "diffusion.variance", "learned_range", ""),
            "learn_sigma" => self.set(entry, "diffusion.variance", "fixed_large", "the original fails"),
            "extras" => {
                let condition = if entry.value == Scalar::Integer(2) { "class" } else { "none" };
                self.set(entry, "model.condition", condition, "");
            }
            "num_classes" if entry.value == Scalar::Nothing => self.idle(entry, "empty"),
            "num_classes" if self.find("extras") != Some(&Scalar::Integer(2)) => {
                self.idle(entry, "a model without classes (`extras: 1`) has no table of them");
            }
            "num_classes" => self.set(entry, "model.num_classes", self.count(entry)?, ""),
            "learning_rate" => self.set(entry, "optimizer.learning_rate", self.number(entry)?, "the original always took 1e-4"),
            "lr_warmup_steps" => {
                self.set(entry, "optimizer.warmup_steps", self.count(entry)?, "the original's constant schedule had none");
            }
            "clip_max_norm" => self.set(entry, "optimizer.max_grad_norm", self.number(entry)?, "the whole step's gradient, once"),
            "start_clip_iter" => self.set(entry, "optimizer.start_clip_iter", self.count(entry)?.div_euclid(passes), ""),
            "ckpt_every" => self.set(entry, "output.checkpoint_every", (self.count(entry)? / passes).max(1), ""),
            "max_train_steps" => {
                let note = if passes == 1 { "" } else { "optimiser steps; the original counted passes" };
                self.set(entry, "train.max_steps", self.count(entry)?.saturating_add(passes - 1) / passes, note);
            }
            "local_batch_size" => {
                self.set(
                    entry,
                    "train.batch_size",
                    self.count(entry)?,
                    "of one GPU there; the paper had 8, as `train.gradient_accumulation_steps = 8` has here",
                );
            }
            "gradient_accumulation_steps" => self.set(entry, "train.gradient_accumulation_steps", passes, ""),
            "global_seed" => self.set(entry, "train.seed", self.count(entry)?, ""),
            "num_workers" => self.set(entry, "data.loader_threads", self.count(entry)?.max(1), "threads"),
            "mixed_precision" => {
                let precision = if self.flag(entry)? { "bf16" } else { "f32" };
                self.set(entry, "train.precision", precision, "in the original part of the folder's name only");
            }
            "gradient_checkpointing" => {
                let activation_checkpointing = if self.flag(entry)? { "block" } else { "none" };
                self.set(
                    entry,
                    "train.activation_checkpointing",
                    activation_checkpointing,
                    "in the original part of the folder's name only",
                );
            }
            "num_sampling_steps" => {
                self.idle(entry, "training does not sample; `[samples] steps` is for samples during training")
            }
            "fixed_spatial" => self.idle(entry, "all of the network is trained"),
            "attention_bias" => self.idle(entry, "never read: queries, keys and values always have biases"),
            "save_ceph" | "load_from_ceph" => self.idle(entry, "never read by training: storage of the authors' cluster"),
            "log_every" => self.idle(entry, "every step is recorded"),
            "resume_from_checkpoint" => self.idle(entry, "a run resumes from its own newest checkpoint by itself"),
            "use_compile" => self.idle(entry, "PyTorch's compiler"),
            "enable_xformers_memory_efficient_attention" => {
                self.idle(entry, "attention never stores the scores of a whole sequence here");
            }
            _ => return Err(self.wrong(key, "this version does not know what it means")),
        }
        Ok(())
    }

    /// Sets one of our keys and records it.
    fn set(&mut self, entry: &Entry, ours: &str, value: impl Into<Value>, note: &str) {
        let value = value.into();
        let mut meaning = format!("{ours} = {}", shown(&value));
        if !note.is_empty() {
            meaning = format!("{meaning}  ({note})");
        }
        self.put(ours, value);
        self.said.honoured.push(TranslatedKey { key: entry.key.clone(), value: entry.value.to_string(), meaning });
    }

    fn idle(&mut self, entry: &Entry, why: &str) {
        self.said.idle.push(TranslatedKey { key: entry.key.clone(), value: entry.value.to_string(), meaning: why.into() });
    }

    fn put(&mut self, ours: &str, value: impl Into<Value>) {
        let (section, key) = ours.split_once('.').unwrap_or(("", ours));
        let section = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(key.to_string(), value.into());
        }
    }

    fn dataset(&self) -> Result<(&'static str, &'static str, bool)> {
        let name = match self.find("dataset") {
            Some(Scalar::Text(name)) => name.clone(),
            other => other.map_or_else(String::new, ToString::to_string),
        };
        DATASETS.into_iter().find(|(theirs, ..)| *theirs == name).ok_or_else(|| {
            let known: Vec<&str> = DATASETS.iter().map(|(theirs, ..)| *theirs).collect();
            self.wrong("dataset", format!("`{name}` is no data set of the original (known: {})", known.join(", ")))
        })
    }

    /// The number of single images per clip.
    fn num_images(&self) -> Result<i64> {
        let joint = self.dataset()?.2;
        match self.entries.iter().find(|entry| entry.key == "use_image_num") {
            Some(entry) if joint => self.count(entry),
            None if joint => Err(self.wrong("use_image_num", "missing; the `_img` data sets need it, the paper has 8")),
            _ => Ok(0),
        }
    }

    /// Our name of the model; the network of joint training is the same.
    fn preset(&self) -> Result<String> {
        let name = match self.find("model") {
            Some(Scalar::Text(name)) => name.clone(),
            other => other.map_or_else(String::new, ToString::to_string),
        };
        if name.starts_with("LatteT2V") {
            return Err(self.wrong("model", "the original has no training of text-to-video models, and neither has this program"));
        }
        let name = name.strip_prefix("LatteIMG-").map_or(name.clone(), |size| format!("Latte-{size}"));
        match LatteConfig::preset(&name) {
            Ok(_) => Ok(name),
            Err(latte_model::Error::Config { what, .. }) => Err(self.wrong("model", what)),
            Err(other) => Err(other.into()),
        }
    }

    /// The passes of one optimiser step; the original counts its steps in passes.
    fn passes(&self) -> Result<i64> {
        Ok(self.or("gradient_accumulation_steps", 1)?.max(1))
    }

    fn or(&self, key: &str, default: i64) -> Result<i64> {
        match self.entries.iter().find(|entry| entry.key == key && entry.value != Scalar::Nothing) {
            Some(entry) => self.count(entry),
            None => Ok(default),
        }
    }

    fn expected(&self, entry: &Entry, what: &str) -> Error {
        let got = if entry.value == Scalar::Nothing { "nothing".to_string() } else { entry.value.to_string() };
        self.wrong(&entry.key, format!("expected {what}, got {got}"))
    }

    fn text(&self, entry: &Entry) -> Result<String> {
        match &entry.value {
            Scalar::Text(text) => Ok(text.clone()),
            _ => Err(self.expected(entry, "a path")),
        }
    }

    fn count(&self, entry: &Entry) -> Result<i64> {
        match entry.value {
            Scalar::Integer(value) if value >= 0 => Ok(value),
            _ => Err(self.expected(entry, "a whole number of at least 0")),
        }
    }

    fn number(&self, entry: &Entry) -> Result<f64> {
        match entry.value {
            Scalar::Integer(value) => Ok(value as f64),
            Scalar::Float(value) => Ok(value),
            _ => Err(self.expected(entry, "a number")),
        }
    }

    fn flag(&self, entry: &Entry) -> Result<bool> {
        match entry.value {
            Scalar::Bool(value) => Ok(value),
            _ => Err(self.expected(entry, "True or False")),
        }
    }
}

/// The reason why a key with this value is refused, if it is.
fn refusal(entry: &Entry) -> Option<&'static str> {
    match (entry.key.as_str(), &entry.value) {
        ("fixed_spatial", Scalar::Bool(true)) => Some(
            "refused: it was to train only temporal attention, but looks for modules called `attn_temp`, which the model lacks, and so \
             trains nothing; set it to False",
        ),
        ("extras", Scalar::Integer(1 | 2)) => None,
        ("extras", Scalar::Integer(78)) => {
            Some("refused: the original stops here too, it has no text-to-video training; take 1 or 2")
        }
        ("extras", _) => Some("refused: expected 1 (no classes) or 2 (classes)"),
        ("resume_from_checkpoint", Scalar::Nothing | Scalar::Bool(false)) => None,
        ("resume_from_checkpoint", _) => Some(
            "refused: the original fails here, and its checkpoints have no optimiser state; leave it empty (a run resumes from \
             its own newest checkpoint by itself), or set `pretrained` to start from weights",
        ),
        _ => None,
    }
}

/// A value as TOML, with learning rates in the usual notation.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(number) => Scalar::Float(*number).to_string(),
        other => other.to_string(),
    }
}
