//! `latte encode`: writes a latent cache.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use latte_progress::{Progress, Stage};
use latte_train::{EncodeOptions, MomentDtype, TrainConfig, encode};
use latte_video::dataset::{Layout, WorkShard};

use super::data::layout_parser;
use crate::device::DeviceArgs;
use crate::failure::bad_input;
use crate::output::check_output_folder;
use crate::progress::StageProgress;
use crate::terminal::say;

/// Runs the autoencoder once over all frames of a data set. Training then reads latents at the speed of memory, and needs neither
/// the videos nor the encoder.
///
/// The cache has the encoder's means and variances, so training from it gives the same clips, the same draws and the same losses
/// as training from the videos. No file is ever half-written. The same command resumes an encoding that was stopped or killed.
/// Several processes share the work with --shard; the last one to finish completes the cache.
///
///   latte encode --config train.toml --out latents
///   latte train --config train.toml --set data.latents=latents
///   latte encode --path UCF-101 --layout ucf101 --vae sd-vae-ft-ema --size 256 --out latents --dtype f16
///   latte encode --config train.toml --out latents --shard 1/4
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A training configuration: its `data` and `autoencoder` select what is encoded.
    #[arg(long, value_name = "FILE", required_unless_present = "path", conflicts_with_all = ["path", "layout", "vae", "size"])]
    config: Option<PathBuf>,
    /// Replaces one value of the configuration; may be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// The folder of the data set.
    #[arg(long, value_name = "DIR", requires_all = ["vae", "size"])]
    path: Option<PathBuf>,
    /// The layout of the data set on disk. Default: folder.
    #[arg(long, value_parser = layout_parser(), value_name = "LAYOUT")]
    layout: Option<Layout>,
    /// The autoencoder: a folder (config.json and weights) or a weights file.
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,
    /// Height and width of training, in pixels.
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// The folder of the cache. Default: `data.latents` of the configuration.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also encode every video mirrored, which training with `data.flip` needs. Default: if the configuration flips.
    #[arg(long)]
    flips: bool,
    /// The dtype of the stored values: f16 takes half the space, and training from it no longer equals training from videos bit for
    /// bit.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Do only part K of N of the work; other processes may do the others at the same time, in the same folder.
    #[arg(long, default_value = "1/1", value_name = "K/N")]
    shard: WorkShard,
    /// The number of videos per group of files.
    #[arg(long, default_value = "64", value_name = "N")]
    file_videos: NonZeroUsize,
    /// The largest size of a file, unless it has only one video.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    file_mib: u64,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

/// The number of unreadable videos that are named on the terminal; the manifest names all.
const NAMED: usize = 20;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = config(args)?;
    let Some(out) = args.out.as_ref().or(config.data.latents.as_ref()) else {
        return Err(bad_input("--out: missing; give the folder of the cache (or set `data.latents`)"));
    };
    check_output_folder(if args.out.is_some() { "--out" } else { "data.latents" }, out)?;
    let options = EncodeOptions {
        flips: args.flips || config.data.flip,
        dtype: match args.dtype {
            Dtype::F32 => MomentDtype::F32,
            Dtype::F16 => MomentDtype::F16,
        },
        shard: args.shard,
        group_videos: args.file_videos,
        file_bytes: args.file_mib << 20,
        device: args.device.open()?,
        ..EncodeOptions::new(out)
    };
    let mut progress = FewWarnings { shown: StageProgress::new(Stage::EncodingVideos.name()), warnings: 0 };
    let report = encode(&config, &options, &mut progress);
    let report = progress.shown.finish_with(report)?;
    if progress.warnings > NAMED {
        say(&format!("and {} more warnings like these", progress.warnings - NAMED));
    }
    let out = out.display();
    say(&format!("{} videos encoded, {} were there already", report.encoded, report.found));
    if report.groups_left > 0 {
        say(&format!("{} files are left to other processes; the last one finishes {out}", report.groups_left));
        return Ok(());
    }
    if report.unreadable > 0 {
        say(&format!("{} videos could not be read; {out}/latents.jsonl names them", report.unreadable));
    }
    say(&format!("train from it: latte train --config … --set data.latents={out}"));
    Ok(())
}

fn config(args: &Args) -> anyhow::Result<TrainConfig> {
    if let Some(file) = &args.config {
        return Ok(TrainConfig::load(file, &args.overrides)?);
    }
    let table = |pairs: &[(&str, toml::Value)]| -> toml::Value {
        pairs.iter().map(|(key, value)| (key.to_string(), value.clone())).collect::<toml::Table>().into()
    };
    let text = |path: &Option<PathBuf>, option: &str| {
        let text = path.as_ref().and_then(|path| path.to_str()).map(toml::Value::from);
        text.ok_or_else(|| bad_input(format!("{option}: expected a path of Unicode characters")))
    };
    let size = args.size.and_then(|size| i64::try_from(size).ok()).context("--size")?;
    // Encoding uses only data and autoencoder; the smallest model fits every size.
    let smallest = [("patch_size", 1.into()), ("hidden_size", 4.into()), ("depth", 2.into()), ("num_heads", 1.into())];
    let sections = [
        ("model", table(&smallest)),
        ("autoencoder", table(&[("kind", "kl".into()), ("path", text(&args.vae, "--vae")?)])),
        (
            "data",
            table(&[
                ("path", text(&args.path, "--path")?),
                ("layout", args.layout.unwrap_or_default().name().into()),
                ("size", size.into()),
            ]),
        ),
        ("train", table(&[("max_steps", 1.into()), ("batch_size", 1.into())])),
        ("output", table(&[("run", "none".into())])),
    ];
    let config = toml::to_string(&table(&sections))?;
    Ok(TrainConfig::from_toml(&config, "command line", &args.overrides)?)
}

/// Prints the first warnings, and counts all.
struct FewWarnings {
    shown: StageProgress,
    warnings: usize,
}

impl Progress for FewWarnings {
    fn stage(&mut self, _: Stage, done: u64, total: u64) {
        self.shown.set(done, total);
    }

    fn warning(&mut self, message: &str) {
        self.warnings += 1;
        if self.warnings <= NAMED {
            self.shown.note(&format!("warning: {message}"));
        }
    }
}
