//! `latte convert`: converts weights between file formats, value for value.

mod plan;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use latte_model::checkpoint::find_weights;
use latte_model::diffusion::{PredictionType, VarianceType};
use latte_model::weights::{PartChoice, Pretrained, TensorSource, WeightFiles, WeightKind, listed};

use crate::failure::bad_input;
use crate::output::{check_output_file, check_output_folder};
use crate::terminal::{note, say};
use plan::Plan;

/// Converts weights between official .pt files, this program's safetensors and diffusers folders.
///
/// Values are copied with their type, and so is the file's description of its model: a .pt has it beside the tensors (`latte`, a
/// dictionary of plain values). From a checkpoint with several sets of weights, the average is taken (`ema`, `ema_model`, …), else
/// the weights (`model`, `state_dict`, …); --part selects another set. Nothing in a .pt file is executed. The kind of model follows
/// from names and shapes; tensors that are missing, unknown or of another shape are an error, unless --lenient.
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
    /// The format to write. Default: by the output's name; a name without extension is a folder.
    #[arg(long, value_enum, value_name = "KIND")]
    to: Option<Kind>,
    /// Skip what does not fit the model, instead of failing.
    #[arg(long)]
    lenient: bool,
    /// The set of weights to take, by its key (`model`, `state_dict.ema_model`, …). Default: the average if there is one.
    #[arg(long, value_name = "KEY")]
    part: Option<String>,
    /// Heads of every attention, if the width is not that of a published model and the file has no number of heads.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// What the network predicts, if the file does not say.
    #[arg(long, value_enum, value_name = "WHAT")]
    prediction: Option<Prediction>,
    /// The variance of a reverse step, if the file does not say.
    #[arg(long, value_enum, value_name = "WHICH")]
    variance: Option<Variance>,
    /// Frames per second of the clips that the model was trained on, if the file does not say.
    #[arg(long, value_name = "N")]
    fps: Option<f64>,
}

/// The format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A PyTorch file, which torch.load(weights_only=True) reads; the official layout {"ema": …}.
    Pt,
    /// A safetensors file, which `latte sample --checkpoint` reads.
    Safetensors,
    /// A folder with config.json, for text-to-video weights and other parts of diffusers' folders.
    Diffusers,
}

/// What a network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Prediction {
    Epsilon,
    X0,
    Velocity,
}

impl From<Prediction> for PredictionType {
    fn from(prediction: Prediction) -> Self {
        match prediction {
            Prediction::Epsilon => Self::Epsilon,
            Prediction::X0 => Self::X0,
            Prediction::Velocity => Self::Velocity,
        }
    }
}

/// The variance of a reverse step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Variance {
    FixedSmall,
    FixedLarge,
    Learned,
    LearnedRange,
}

impl From<Variance> for VarianceType {
    fn from(variance: Variance) -> Self {
        match variance {
            Variance::FixedSmall => Self::FixedSmall,
            Variance::FixedLarge => Self::FixedLarge,
            Variance::Learned => Self::Learned,
            Variance::LearnedRange => Self::LearnedRange,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let kind = args.to.map_or_else(|| kind_of(&args.output), Ok)?;
    check_output(&args.output, kind)?;
    if let Some(fps) = args.fps.filter(|fps| !(fps.is_finite() && *fps > 0.0)) {
        return Err(bad_input(format!("--fps: expected a positive number, got {fps}")));
    }
    let input = input_file(&args.input)?;
    let choice = PartChoice { key: args.part.as_deref(), ..PartChoice::default() };
    let weights = Pretrained::choose(WeightFiles::open(&input)?, choice)?;
    if kind == Kind::Diffusers && weights.kind() == WeightKind::Latte {
        return Err(plan::no_class(&weights, &args.output));
    }
    let plan = Plan::of(&weights, args)?;
    if let Some(line) = weights.note() {
        note(&line);
    }
    warn_of_values_that_are_not_finite(&weights, &plan.names, &input)?;
    plan.write(&weights, kind, &args.output)?;
    let values: usize = plan.names.iter().filter_map(|name| weights.shape(name)).map(|s| s.iter().product::<usize>()).sum();
    say(&format!("{}: {}, {} tensors with {values} values", args.output.display(), weights.kind(), plan.names.len()));
    Ok(())
}

/// The format that the output's name selects.
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

/// Checks that the output can be written, before gigabytes are read for it.
fn check_output(output: &Path, kind: Kind) -> anyhow::Result<()> {
    const WHAT: &str = "the output";
    match kind {
        Kind::Diffusers => check_output_folder(WHAT, output),
        Kind::Pt | Kind::Safetensors => check_output_file(WHAT, output),
    }
}

/// The weights file of a checkpoint or run folder; any other path is returned unchanged.
fn input_file(path: &Path) -> anyhow::Result<PathBuf> {
    if path.join("ema.safetensors").is_file() || path.join("checkpoints").is_dir() {
        return Ok(find_weights(path)?);
    }
    if !path.exists() {
        return Err(bad_input(format!("{}: no such file or folder", path.display())));
    }
    Ok(path.to_path_buf())
}

/// They are copied all the same: the output equals the input.
fn warn_of_values_that_are_not_finite(weights: &Pretrained, names: &[String], input: &Path) -> anyhow::Result<()> {
    const MAX_SHOWN: usize = 5;
    let bad = weights.not_finite()?;
    let bad: Vec<String> = bad
        .into_iter()
        .filter(|(name, ..)| names.contains(name))
        .map(|(name, count, of)| format!("{count} of {of} in `{name}`"))
        .collect();
    if !bad.is_empty() {
        note(&format!(
            "{}: values that are not finite (NaN or infinite): {}; they are copied unchanged, but a model with them is useless",
            input.display(),
            listed(&bad, MAX_SHOWN)
        ));
    }
    Ok(())
}
