//! Decides which tensors of an input are written, and which metadata beside them.

use std::collections::BTreeMap;
use std::path::Path;

use latte_model::checkpoint::{AssumedMetadata, CheckpointMetadata, StatedMetadata};
use latte_model::model::t2v::{LatteT2v, T2vConfig};
use latte_model::model::{ConfigHints, Latte};
use latte_model::weights::{
    CONFIG, DESCRIPTION, FileKind, Pretrained, TEXTS, TensorSource, WeightFiles, WeightKind, write_atomically, write_weights,
};
use latte_textfile::named;
use serde_json::Value;

use super::{Args, Kind};
use crate::failure::bad_input;
use crate::terminal::note;

/// The tensors to write, with their metadata.
pub(super) struct Plan {
    pub(super) names: Vec<String>,
    /// This program's description of the model.
    description: Option<Value>,
    /// The same as text, as in the header of a safetensors file.
    text: Option<String>,
    /// The `config.json` of a diffusers folder.
    config: Option<Value>,
    /// The input's metadata beside its tensors.
    texts: BTreeMap<String, String>,
    /// The key of the tensors in a PyTorch file.
    part: Option<String>,
}

/// The key and the value that other programs expect in a safetensors header.
const FORMAT: (&str, &str) = ("format", "pt");

impl Plan {
    pub(super) fn of(weights: &Pretrained, args: &Args) -> anyhow::Result<Self> {
        match weights.kind() {
            _ if weights.files().is_described() => own(weights, args),
            WeightKind::Latte => latte(weights, args),
            WeightKind::LatteT2v => text_to_video(weights, args),
            other => {
                note(&format!("{}: {other}; copied unchanged", weights.files().path().display()));
                plain(weights)
            }
        }
    }

    /// Writes the tensors and their metadata.
    pub(super) fn write(&self, weights: &Pretrained, kind: Kind, output: &Path) -> anyhow::Result<()> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let read = |name: &str| weights.raw(name);
        match kind {
            Kind::Safetensors => write_weights(output, &self.safetensors(true), &names, &read)?,
            Kind::Pt => write_weights(output, &self.torch(), &names, &read)?,
            Kind::Diffusers => {
                let Some(config) = &self.config else { return Err(no_class(weights, output)) };
                // transformers expects another file name for text encoders than diffusers for the other parts.
                let file = if weights.kind() == WeightKind::T5 { "model" } else { "diffusion_pytorch_model" };
                let file = output.join(format!("{file}.safetensors"));
                check_folder(output, &file)?;
                std::fs::create_dir_all(output).map_err(|e| bad_input(format!("{}: {e}", output.display())))?;
                write_weights(&file, &self.safetensors(false), &names, &read)?;
                write_atomically(&output.join(CONFIG), format!("{config:#}\n").as_bytes())?;
            }
        }
        Ok(())
    }

    fn safetensors(&self, with_config: bool) -> FileKind {
        let mut metadata = self.texts.clone();
        if let Some(description) = &self.description {
            // The input's own text, if it has one: parsing and writing may round the last bit of a number.
            metadata.insert(DESCRIPTION.into(), self.text.clone().unwrap_or_else(|| description.to_string()));
        } else {
            metadata.insert(FORMAT.0.into(), FORMAT.1.into());
        }
        if let Some(config) = self.config.as_ref().filter(|_| with_config) {
            metadata.insert(CONFIG.into(), config.to_string());
        }
        FileKind::Safetensors { metadata }
    }

    fn torch(&self) -> FileKind {
        let mut values = BTreeMap::new();
        values.extend(self.description.clone().map(|value| (DESCRIPTION.to_string(), value)));
        values.extend(self.config.clone().map(|value| (CONFIG.to_string(), value)));
        if !self.texts.is_empty() {
            let texts = self.texts.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect();
            values.insert(TEXTS.into(), Value::Object(texts));
        }
        match &self.part {
            part if values.is_empty() => FileKind::Torch { part: part.clone() },
            part => FileKind::TorchWithValues { part: part.clone().unwrap_or_else(|| "state_dict".into()), values },
        }
    }
}

/// Weights with a description of this program's trainer.
fn own(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let wrong = |what: String| bad_input(format!("{}: {what}", args.input.display()));
    let metadata: CheckpointMetadata = CheckpointMetadata::read(weights.files())?;
    let stated = [
        ("heads", args.heads.is_some_and(|heads| heads != metadata.model.num_heads), metadata.model.num_heads.to_string()),
        (
            "prediction",
            args.prediction.is_some_and(|p| metadata.diffusion.prediction != p.into()),
            named(&metadata.diffusion.prediction),
        ),
        ("variance", args.variance.is_some_and(|v| metadata.diffusion.variance != v.into()), named(&metadata.diffusion.variance)),
        ("fps", args.fps.is_some_and(|fps| fps.to_bits() != metadata.fps.to_bits()), metadata.fps.to_string()),
    ];
    if let Some((option, _, written)) = stated.iter().find(|(_, differs, _)| *differs) {
        return Err(wrong(format!("--{option}: the file itself says {written}; leave the option out")));
    }
    let description = weights.files().description()?;
    planned(&Latte::new(metadata.model.clone())?, weights, &metadata, description, args)
}

/// Weights of a class model without metadata, such as the official ones.
fn latte(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let stated = StatedMetadata {
        hints: ConfigHints { num_heads: args.heads, input_size: None },
        prediction: args.prediction.map(Into::into),
        variance: args.variance.map(Into::into),
        fps: args.fps,
    };
    let assumed = AssumedMetadata::of(weights, stated)?;
    let metadata = &assumed.metadata;
    let plan = planned(&Latte::new(metadata.model.clone())?, weights, metadata, Some(serde_json::to_value(metadata)?), args)?;
    note(&assumed.note(&args.input));
    Ok(plan)
}

fn planned(
    model: &Latte,
    weights: &Pretrained,
    metadata: &CheckpointMetadata,
    description: Option<Value>,
    args: &Args,
) -> anyhow::Result<Plan> {
    let report = model.fit(weights);
    let mut names = weights.names();
    if !report.is_complete() {
        if !args.lenient {
            return Err(bad_input(format!(
                "{}: the tensors do not fit the model: {report}; --lenient leaves them out",
                args.input.display()
            )));
        }
        note(&format!("{}: {report}", args.input.display()));
        names.retain(|name| !report.ignored.contains(name) && !report.wrong_shape.iter().any(|(wrong, ..)| wrong == name));
    }
    let part = Some(if metadata.ema { "ema" } else { "model" }.into());
    let text = weights.files().metadata().get(DESCRIPTION).cloned();
    Ok(Plan { names, description, text, config: weights.files().config()?, texts: texts(weights.files()), part })
}

/// Text-to-video weights, of the official repository or of diffusers, which have the same names.
fn text_to_video(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let wrong = |what: String| bad_input(format!("{}: {what}", args.input.display()));
    let written = weights.files().config()?;
    let config = match &written {
        Some(config) => T2vConfig::from_json(config),
        None => T2vConfig::from_weights(weights, args.heads),
    };
    let config = config.map_err(|e| wrong(e.to_string()))?;
    if let Some(heads) = args.heads.filter(|heads| *heads != config.num_attention_heads) {
        let what = format!("--heads {heads}: its configuration says {}; leave the option out", config.num_attention_heads);
        return Err(wrong(what));
    }
    let model = LatteT2v::new(config)?;
    let mut names = weights.names();
    if let Err(what) = model.check(weights) {
        if !args.lenient {
            return Err(wrong(format!("{what}; --lenient leaves out what does not fit")));
        }
        note(&format!("{}: {what}", args.input.display()));
        let fits =
            |name: &String| model.parameters().iter().any(|p| p.name == *name && weights.shape(name).as_ref() == Some(&p.shape));
        names.retain(fits);
    }
    if written.is_none() {
        note(&format!(
            "{}: it has no {CONFIG}; taken as in Latte-1: {} heads, sample_size {}, video_length {}, norm_eps {}",
            args.input.display(),
            model.config().num_attention_heads,
            model.config().sample_size,
            model.config().video_length,
            model.config().norm_eps
        ));
    }
    let config = written.unwrap_or_else(|| model.config().to_diffusers());
    let texts = texts(weights.files());
    Ok(Plan { names, description: None, text: None, config: Some(config), texts, part: Some("ema".into()) })
}

/// Tensors of an unknown model.
fn plain(weights: &Pretrained) -> anyhow::Result<Plan> {
    let config = weights.files().config()?;
    let texts = texts(weights.files());
    Ok(Plan { names: weights.names(), description: None, text: None, config, texts, part: None })
}

/// The input's metadata without the keys that are written again.
fn texts(files: &WeightFiles) -> BTreeMap<String, String> {
    let mut texts = files.metadata().clone();
    texts.retain(|key, text| ![DESCRIPTION, CONFIG].contains(&key.as_str()) && (key.as_str(), text.as_str()) != FORMAT);
    texts
}

/// diffusers has a class only for text-to-video weights.
pub(super) fn no_class(weights: &Pretrained, output: &Path) -> anyhow::Error {
    bad_input(format!(
        "{}: diffusers has no class for {}, only for text-to-video weights; use --to pt or --to safetensors",
        output.display(),
        weights.kind()
    ))
}

/// Checks that a reader of the folder would read `file`, not other weights in it.
fn check_folder(folder: &Path, file: &Path) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let is_weights = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json"].iter().any(|end| name.ends_with(end))
    };
    let other = entries.flatten().map(|entry| entry.path()).find(|path| path != file && is_weights(path));
    match other {
        Some(other) => Err(bad_input(format!(
            "{}: already has the weights {}, and a folder can have only one set of weights; write into an empty folder",
            folder.display(),
            other.file_name().unwrap_or_default().display()
        ))),
        None => Ok(()),
    }
}
