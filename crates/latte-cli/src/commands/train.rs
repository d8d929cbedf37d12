//! `latte train`: a training run from a configuration.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use candle_core::Device;
use latte_train::{Outcome, Start, TrainConfig, Trainer};

use super::dry_run::dry_run;
use super::run_args::{ConfigArgs, StartArgs};
use crate::device::DeviceArgs;
use crate::judges::Judges;
use crate::output::check_output_folder;
use crate::progress::TrainingProgress;
use crate::terminal::{note, say};

/// Trains a model on a folder of videos.
///
/// The run goes on from its newest checkpoint if it has one, to the same weights, bit for bit, as without the break. Ctrl-C
/// finishes the step under way, saves, and ends; the same command goes on from there.
///
///   latte data demo clips && latte train --config configs/tiny.toml
///   latte train --config configs/folder.toml --set data.path=my-videos --set output.run=runs/mine
///   latte train --config configs/tiny.toml --set train.max_steps=2000 --set optimizer.learning_rate=3e-4
///   latte train --config configs/ffs_train.toml --dry-run
///   latte train --config ffs_train.yaml --set data.path=my-videos
///
/// configs/folder.toml explains every key. A YAML file of the original is translated, and what becomes of each of its keys is
/// said.
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
    let stop = stop_on_interrupt()?;
    match train(config, &device, args.start.start(), &stop)? {
        Outcome::Finished { checkpoint } => {
            say(&format!("finished; the last checkpoint is {}", checkpoint.display()));
            say(&format!("sample from it: latte sample --checkpoint {}", checkpoint.display()));
        }
        Outcome::Stopped { step, checkpoint } => {
            say(&format!("stopped after step {step}; saved {}", checkpoint.display()));
            say("the same command goes on from there");
        }
    }
    Ok(())
}

/// Reads a configuration; of the original's, says what becomes of its keys.
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

/// Runs a configuration on `device` to its end, or until `stop` is set, and shows how far it is.
///
/// # Errors
///
/// As [`Trainer::open`] and [`Trainer::run`].
pub(crate) fn train(config: TrainConfig, device: &Device, start: Start, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    check_output_folder("output.run", &config.output.run)?;
    let judge = Judges::of(&config)?;
    let mut trainer = Trainer::open(config, start)?.on(device)?;
    let model = &trainer.card().model;
    note(&format!(
        "model: {} parameters, {} blocks of width {}; data: {} videos{}",
        trainer.num_trainable(),
        model.depth,
        model.hidden_size,
        trainer.num_videos(),
        match trainer.card().classes.len() {
            0 => String::new(),
            n => format!(" of {n} classes"),
        }
    ));
    if let Some(path) = trainer.resumed_from() {
        note(&format!("going on from {}", path.display()));
    }
    if let Some(judge) = judge {
        trainer = trainer.with_judge(Box::new(judge))?;
    }
    let mut progress = TrainingProgress::new(trainer.config().train.max_steps);
    let outcome = trainer.run(stop, &mut progress);
    progress.finish();
    Ok(outcome?)
}

/// A flag that Ctrl-C (or a request to terminate) sets. The second Ctrl-C ends the program at once.
///
/// # Errors
///
/// If the system refuses to tell of Ctrl-C.
pub(crate) fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let handler = move || {
        if seen.swap(true, Ordering::SeqCst) {
            end_at_once();
        }
        note("stopping: this step is finished and saved first (Ctrl-C again ends at once, without saving)");
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

#[expect(clippy::exit, reason = "the user asked twice; files are written whole or not at all")]
fn end_at_once() {
    // What shells report for a program that Ctrl-C ended.
    std::process::exit(130);
}
