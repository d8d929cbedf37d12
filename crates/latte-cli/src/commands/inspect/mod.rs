//! `latte inspect`: describes a file or folder.

mod interop;
mod latents;

use std::path::{Path, PathBuf};

use latte_model::checkpoint::{CheckpointFolder, CheckpointMetadata, find_weights};
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_model::vae::AutoencoderKind;
use latte_model::weights::Pretrained;
use latte_textfile::named;
use latte_train::{ConditionKind, Manifest, TrainConfig, read_metrics};
use latte_video::{Decoder, Video};

use crate::failure::bad_input;
use crate::terminal::say;

/// Describes a file or folder: a run, a checkpoint, weights (also of other programs), all parts of a text-to-video model, a
/// latent cache, a configuration, or a video.
///
///   latte inspect runs/tiny
///   latte inspect configs/tiny.toml
///   latte inspect ffs.pt
///   latte inspect samples/right_red_square_seed0.mp4
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A run or checkpoint folder, a .safetensors, .pt, .bin or .toml file, a folder of weights, latents or model parts, a video
    /// file, or a folder of frames.
    path: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.path.as_path();
    if interop::is_pipeline(path) {
        return interop::say_pipeline(path);
    }
    let lines = match path.extension().and_then(|e| e.to_str()) {
        _ if !path.exists() => return Err(bad_input(format!("{}: no such file or folder", path.display()))),
        _ if path.join("checkpoints").is_dir() => run_folder(path)?,
        _ if path.join("ema.safetensors").is_file() => weights(path)?,
        _ if Manifest::exists(path) => latents::lines(path)?,
        Some("safetensors" | "pt" | "pth" | "bin" | "ckpt") => weights(path)?,
        Some("json") => interop::lines(path)?,
        _ if interop::is_folder_of_weights(path) => interop::lines(path)?,
        Some("toml") => configuration(path)?,
        _ => vec![Video::open(path, Decoder::Auto)?.info().to_string()],
    };
    for line in lines {
        say(&line);
    }
    Ok(())
}

/// A run folder: its checkpoints, its progress, and its model.
fn run_folder(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![format!("{}: a training run", path.display())];
    let checkpoints = CheckpointFolder::of_run(path).list()?;
    let steps: Vec<String> = checkpoints.iter().map(|(step, _)| step.to_string()).collect();
    lines.push(field("checkpoints", if steps.is_empty() { "none yet".into() } else { format!("at steps {}", steps.join(", ")) }));
    let log = path.join("metrics.jsonl");
    if let Some(last) = log.is_file().then(|| read_metrics(&log)).transpose()?.and_then(|records| records.into_iter().last()) {
        lines.push(field(
            "last step",
            format!("{}: loss {:.4}, gradient norm {:.3}, learning rate {:.2e}", last.step, last.loss, last.grad_norm, last.lr),
        ));
    }
    if !checkpoints.is_empty() {
        lines.extend(weights(path)?);
    }
    Ok(lines)
}

/// Weights, with the metadata that the trainer wrote into them.
fn weights(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = find_weights(path)?;
    let files = Pretrained::open(&file)?;
    if !files.files().is_described() {
        return interop::lines(&file);
    }
    let metadata = CheckpointMetadata::read(files.files())?;
    let mut lines = vec![format!("{}: weights after {} steps", file.display(), metadata.step)];
    lines.push(field("these are", if metadata.ema { "the moving average" } else { "the raw weights" }));
    lines.push(interop::count(&files));
    lines.push(interop::types(&files));
    lines.extend(interop::not_finite(&files)?);
    lines.extend(metadata_lines(&metadata));
    lines.extend(interop::digests(&files));
    if let Err(what) = Latte::new(metadata.model.clone())?.check(&files) {
        lines.push(field("not usable", what));
    }
    Ok(lines)
}

fn metadata_lines(metadata: &CheckpointMetadata) -> Vec<String> {
    let mut lines = model_lines(&metadata.model);
    let [height, width] = metadata.frame_size;
    lines.push(field(
        "clips",
        format!("{} frames of {width} × {height} pixels, {:.3} per second", metadata.num_frames, metadata.fps),
    ));
    if metadata.autoencoder.kind == AutoencoderKind::Kl {
        let path = metadata.autoencoder.path.as_ref().map_or("not said".into(), |path| path.display().to_string());
        let digest = metadata.vae.as_ref().map_or(String::new(), |vae| format!(" (SHA-256 {})", vae.sha256));
        lines.push(field("autoencoder", format!("{path}{digest}")));
    }
    lines.push(field("diffusion", diffusion(&metadata.diffusion)));
    if !metadata.classes.is_empty() {
        let classes: Vec<String> = metadata.classes.iter().enumerate().map(|(n, name)| format!("{n} {name}")).collect();
        lines.push(field("classes", classes.join(", ")));
    }
    lines
}

fn model_lines(model: &LatteConfig) -> Vec<String> {
    let [h, w] = model.input_size;
    let condition = match model.condition {
        Condition::None => "nothing".into(),
        Condition::Class { num_classes, dropout } => {
            format!("{num_classes} classes (label dropped in {:.0} % of training)", 100.0 * dropout)
        }
        Condition::Text { length, width } => format!("text of {length} tokens of width {width}"),
    };
    vec![
        field(
            "model",
            format!(
                "{} blocks of width {}, {} heads, patch {}",
                model.depth, model.hidden_size, model.num_heads, model.patch_size
            ),
        ),
        field(
            "choices",
            [named(&model.block_layout), named(&model.patch_embedding), named(&model.injection), named(&model.temporal_position)]
                .join(", "),
        ),
        field("latent", format!("{} frames, {} channels, {h} × {w}", model.num_frames, model.in_channels)),
        field("condition", condition),
    ]
}

fn diffusion(config: &latte_model::diffusion::DiffusionConfig) -> String {
    format!(
        "{} steps, {} schedule, predicts {}, variance {}, loss {}",
        config.num_timesteps,
        named(&config.noise_schedule),
        named(&config.prediction),
        named(&config.variance),
        named(&config.loss)
    )
}

/// A configuration: whether it can be read, and what it describes.
fn configuration(path: &Path) -> anyhow::Result<Vec<String>> {
    let config = TrainConfig::load(path, &[])?;
    let mut lines = vec![format!("{}: a training configuration", path.display())];
    let classes = config.model.num_classes.unwrap_or(1);
    let model = Latte::new(config.resolve_model(classes)?)?;
    lines.extend(model_lines(model.config()).into_iter().take(3));
    lines.push(field(
        "condition",
        match (config.model.condition, config.model.num_classes) {
            (ConditionKind::None, _) => "nothing".into(),
            (ConditionKind::Class, Some(n)) => format!("{n} classes"),
            (ConditionKind::Class, None) => "as many classes as the data has sub-folders".into(),
        },
    ));
    let about = if config.model.condition == ConditionKind::Class && config.model.num_classes.is_none() {
        " and one row per class"
    } else {
        ""
    };
    lines.push(field("trainable", format!("{} values{about}", model.num_trainable() - class_rows(&config, &model))));
    let [height, width] = config.data.size.height_width();
    let data = &config.data;
    lines.push(field(
        "data",
        format!("{}: {} frames of {width} × {height}, {} apart", data.path.display(), data.num_frames, data.frame_interval),
    ));
    let train = &config.train;
    lines.push(field(
        "training",
        format!(
            "{} steps of {} clips, seed {}",
            train.max_steps,
            train.batch_size * train.gradient_accumulation_steps,
            train.seed
        ),
    ));
    lines.push(field("run folder", config.output.run.display().to_string()));
    lines.push(String::new());
    lines.push("all values, defaults written out:".into());
    lines.push(String::new());
    lines.push(config.to_toml()?.trim_end().to_string());
    Ok(lines)
}

/// The number of values of the class embedding, if the configuration does not have the number of classes.
fn class_rows(config: &TrainConfig, model: &Latte) -> usize {
    if config.model.condition != ConditionKind::Class || config.model.num_classes.is_some() {
        return 0;
    }
    model
        .parameters()
        .iter()
        .filter(|spec| spec.name.starts_with("y_embedder"))
        .map(latte_model::model::ParameterSpec::num_values)
        .sum()
}

fn field(name: &str, value: impl AsRef<str>) -> String {
    format!("  {name:<12}{}", value.as_ref())
}
