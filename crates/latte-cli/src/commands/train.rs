//! `latte train`: runs a training from a configuration.

use std::path::Path;

use candle_core::Device;
use latte_train::tasks::class_on;
use latte_train::{Outcome, Start, TrainConfig, Trainer};

use super::dry_run::dry_run;
use super::run_args::{ConfigArgs, StartArgs};
use crate::device::DeviceArgs;
use crate::interrupt::Interrupt;
use crate::output::check_output_folder;
use crate::progress::RunProgress;
use crate::run_evaluator::RunEvaluator;
use crate::terminal::{note, say};

/// Trains a model on a folder of videos.
///
/// The run resumes from its newest checkpoint if it has one, and gets the same weights, bit for bit, as without the interruption.
/// Ctrl-C finishes the current step, saves, and ends with exit code 130 (143 after a request to terminate); the same command
/// resumes.
///
///   latte data demo clips && latte train --config configs/tiny.toml
///   latte train --config configs/small.toml --set data.path=my-videos --set output.run=runs/mine
///   latte train --config configs/tiny.toml --set train.max_steps=2000 --set optimizer.learning_rate=3e-4
///   latte train --config configs/ffs_train.toml --dry-run
///   latte train --config ffs_train.yaml --set data.path=my-videos
///
/// configs/folder.toml explains every key. A YAML file of the original is translated, with a report about each of its keys.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write nothing: print the whole configuration, the number of parameters, and an estimate of memory and speed.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = load(&args.config.file, &args.config.overrides)?;
    if args.dry_run {
        args.device.expect_cpu("the estimate of --dry-run")?;
        return dry_run(config);
    }
    let device = args.device.open()?;
    let interrupt = Interrupt::listen()?;
    match train(config, &device, args.start.start(), &interrupt)? {
        Outcome::Finished { checkpoint, .. } => {
            say(&format!("finished; the last checkpoint is {}", checkpoint.display()));
            say(&format!("sample from it: latte sample --checkpoint {}", checkpoint.display()));
        }
        Outcome::Stopped { step, checkpoint } => {
            say(&format!("stopped after step {step}; saved {}", checkpoint.display()));
            say("the same command resumes from there");
            return Err(interrupt.error());
        }
    }
    Ok(())
}

/// Reads a configuration; for a file of the original, reports the meaning of its keys.
fn load(path: &Path, overrides: &[String]) -> anyhow::Result<TrainConfig> {
    if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml")) {
        return Ok(TrainConfig::load(path, overrides)?);
    }
    let (config, translation) = TrainConfig::load_official(path, overrides)?;
    note(&format!("{}: a configuration of the original", path.display()));
    for line in translation.lines() {
        note(&line);
    }
    Ok(config)
}

/// Runs a training on `device` to its end, or until `interrupt` stops it, and shows its progress.
///
/// # Errors
///
/// As [`Trainer::open`] and [`Trainer::run`].
pub(crate) fn train(config: TrainConfig, device: &Device, start: Start, interrupt: &Interrupt) -> anyhow::Result<Outcome<()>> {
    check_output_folder("output.run", &config.output.run)?;
    // Opening the detectors may take minutes.
    config.check_latents()?;
    let evaluator = RunEvaluator::of(&config)?;
    let mut task = class_on(config, device)?;
    if let Some(evaluator) = evaluator {
        task = task.with_evaluator(Box::new(evaluator));
    }
    let mut trainer = Trainer::open(task, start)?;
    let metadata = trainer.task().metadata();
    let model = &metadata.model;
    note(&format!(
        "model: {} parameters, {} blocks of width {}; data: {} videos{}",
        trainer.num_trainable(),
        model.depth,
        model.hidden_size,
        trainer.num_videos(),
        match metadata.classes.len() {
            0 => String::new(),
            n => format!(" of {n} classes"),
        }
    ));
    if let Some(path) = trainer.resumed_from() {
        note(&format!("resuming from {}", path.display()));
    }
    let mut progress = RunProgress::new(trainer.config().train.max_steps);
    let outcome = interrupt.while_saving(|stop| trainer.run(stop, &mut progress));
    progress.finish();
    Ok(outcome?)
}
