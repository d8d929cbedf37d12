//! `latte convert`: weights from one kind of file to another, value for value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use latte::model::t2v::{LatteT2v, T2vConfig};
use latte::model::{Hints, Latte, LatteConfig};
use latte::weights::{DESCRIPTION, FileKind, Pretrained, TensorSource, WeightKind, write_atomically, write_weights};
use latte_train::{ModelCard, find_weights};

use crate::failure::bad_input;
use crate::terminal::{note, say};

/// Converts weights between official .pt files, this program's safetensors and diffusers folders.
///
/// Values are copied as they are, whatever their type. Of a checkpoint with several parts, the moving average is taken (`ema`),
/// else the weights (`model`, `state_dict`). Nothing in a .pt file is run. What the input is, its names and shapes tell; tensors
/// that are missing, unknown or of another shape are an error, unless --lenient.
///
///   latte convert ffs.pt ffs.safetensors
///   latte convert runs/mine mine.pt
///   latte convert t2v.pt transformer --to diffusers
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A weights file (.pt, .bin, .safetensors, an index of parts), a folder of such, or a checkpoint or run folder.
    input: PathBuf,
    /// The file to write, or for diffusers the folder.
    output: PathBuf,
    /// What to write. Default: what the output's name says; a name without ending is a folder.
    #[arg(long, value_enum, value_name = "KIND")]
    to: Option<Kind>,
    /// Leave out what does not fit the model, instead of stopping.
    #[arg(long)]
    lenient: bool,
    /// Heads of every attention, where the width is none of the published models'.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// PyTorch's file, which torch.load(weights_only=True) reads; the official layout {"ema": …}.
    Pt,
    /// A safetensors file, which `latte sample --checkpoint` takes.
    Safetensors,
    /// A folder with config.json, for text-to-video weights.
    Diffusers,
}

/// What is written, and whose it is.
struct Plan {
    names: Vec<String>,
    metadata: BTreeMap<String, String>,
    /// The key in a file of PyTorch that the tensors lie under.
    part: Option<String>,
    /// The `config.json` of a diffusers folder.
    config: Option<serde_json::Value>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let kind = args.to.map_or_else(|| kind_of(&args.output), Ok)?;
    let input = input_file(&args.input)?;
    let weights = Pretrained::open(&input)?;
    if kind == Kind::Diffusers && weights.kind() == WeightKind::Latte {
        return Err(no_class(&weights, &args.output));
    }
    let plan = match weights.kind() {
        _ if weights.files().metadata().contains_key(DESCRIPTION) => own(&weights, args)?,
        WeightKind::Latte => latte(&weights, args)?,
        WeightKind::LatteT2v => text_to_video(&weights, args)?,
        other => {
            note(&format!("{}: {other}; copied as it is", input.display()));
            plain(&weights)
        }
    };
    write(&weights, &plan, kind, &args.output)?;
    let values: usize = plan.names.iter().filter_map(|name| weights.shape(name)).map(|s| s.iter().product::<usize>()).sum();
    say(&format!("{}: {}, {} tensors with {values} values", args.output.display(), weights.kind(), plan.names.len()));
    Ok(())
}

/// What the output's name says is to be written.
fn kind_of(output: &Path) -> anyhow::Result<Kind> {
    match output.extension().and_then(|e| e.to_str()) {
        Some("pt" | "pth" | "bin" | "ckpt") => Ok(Kind::Pt),
        Some("safetensors") => Ok(Kind::Safetensors),
        None => Ok(Kind::Diffusers),
        Some(other) => Err(bad_input(format!(
            "{}: `.{other}` does not say what to write; end it with .pt or .safetensors, or use --to",
            output.display()
        ))),
    }
}

/// The file that a checkpoint or run folder means; anything else is taken as it is.
fn input_file(path: &Path) -> anyhow::Result<PathBuf> {
    if path.join("ema.safetensors").is_file() || path.join("checkpoints").is_dir() {
        return Ok(find_weights(path)?);
    }
    if !path.exists() {
        return Err(bad_input(format!("{}: no such file or folder", path.display())));
    }
    Ok(path.to_path_buf())
}

/// Weights with a description of this program's trainer.
fn own(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let text = weights.files().metadata().get(DESCRIPTION).map(String::as_str).unwrap_or_default();
    let card: ModelCard = serde_json::from_str(text)
        .map_err(|e| bad_input(format!("{}: its description cannot be understood: {e}", args.input.display())))?;
    let model = Latte::new(card.model.clone())?;
    planned(&model, weights, &card, args)
}

/// Official weights.
fn latte(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let hints = Hints { num_heads: args.heads, input_size: None };
    let config = LatteConfig::from_weights(weights, hints).map_err(|e| bad_input(format!("{}: {e}", args.input.display())))?;
    let card = ModelCard::of_official(config.clone(), weights.part().is_some_and(|part| part.ends_with("ema")));
    planned(&Latte::new(config)?, weights, &card, args)
}

fn planned(model: &Latte, weights: &Pretrained, card: &ModelCard, args: &Args) -> anyhow::Result<Plan> {
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
    let metadata = BTreeMap::from([(DESCRIPTION.to_string(), serde_json::to_string(card)?)]);
    Ok(Plan { names, metadata, part: Some(if card.ema { "ema" } else { "model" }.into()), config: None })
}

/// Text-to-video weights, of the official repository or of diffusers, which have the same names.
fn text_to_video(weights: &Pretrained, args: &Args) -> anyhow::Result<Plan> {
    let wrong = |what: String| bad_input(format!("{}: {what}", args.input.display()));
    let written = weights.files().config();
    let config = match written {
        Some(config) => T2vConfig::from_json(config),
        None => T2vConfig::from_weights(weights, args.heads),
    };
    let config = config.map_err(|e| wrong(e.to_string()))?;
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
    let config = written.cloned().unwrap_or_else(|| model.config().to_diffusers());
    Ok(Plan { names, metadata: of_pytorch(), part: Some("ema".into()), config: Some(config) })
}

/// Tensors of no model that there are rules for.
fn plain(weights: &Pretrained) -> Plan {
    let config = weights.files().config().cloned();
    Plan { names: weights.names(), metadata: of_pytorch(), part: None, config }
}

/// What the libraries of other programs want in a safetensors header.
fn of_pytorch() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_string(), "pt".to_string())])
}

/// Diffusers has a class for text-to-video weights alone.
fn no_class(weights: &Pretrained, output: &Path) -> anyhow::Error {
    bad_input(format!(
        "{}: diffusers has no class for {}, only for text-to-video weights; use --to pt or --to safetensors",
        output.display(),
        weights.kind()
    ))
}

fn write(weights: &Pretrained, plan: &Plan, kind: Kind, output: &Path) -> anyhow::Result<()> {
    let names: Vec<&str> = plan.names.iter().map(String::as_str).collect();
    let safetensors = || FileKind::Safetensors { metadata: plan.metadata.clone() };
    let read = |name: &str| weights.raw(name);
    match kind {
        Kind::Safetensors => write_weights(output, &safetensors(), &names, &read)?,
        Kind::Pt => write_weights(output, &FileKind::Torch { part: plan.part.clone() }, &names, &read)?,
        Kind::Diffusers => {
            let Some(config) = &plan.config else {
                return Err(no_class(weights, output));
            };
            std::fs::create_dir_all(output).map_err(|e| bad_input(format!("{}: {e}", output.display())))?;
            write_weights(&output.join("diffusion_pytorch_model.safetensors"), &safetensors(), &names, &read)?;
            write_atomically(&output.join("config.json"), format!("{config:#}\n").as_bytes())?;
        }
    }
    Ok(())
}
