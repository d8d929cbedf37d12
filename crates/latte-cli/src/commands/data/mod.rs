//! `latte data`: makes, checks and converts data sets.

mod bench;
mod check;
mod frames;
mod index;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use latte_demo::dataset;
use latte_video::Decoder;
use latte_video::dataset::{Layout, Location, ManifestOptions};

use crate::demo::parameters;
use crate::failure::bad_input;
use crate::output::check_output_folder;
use crate::terminal::{note, say};

/// Makes, checks and converts data sets for training.
///
///   latte data demo clips
///   latte data check --layout ucf101 --path UCF-101
///   latte data index --layout ucf101 --path UCF-101
///   latte data frames --path UCF-101 --out UCF-101-frames
///   latte data bench --config train.toml --clips 200
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(DemoArgs),
    Index(index::Args),
    Check(check::Args),
    Frames(frames::Args),
    Bench(bench::Args),
}

/// Writes the demo's data set: mp4 files of moving shapes, one sub-folder per class, and a configuration to train on them.
///
///   latte data demo clips
///   latte train --config clips/train.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct DemoArgs {
    /// The folder to write into; created if it is missing.
    folder: PathBuf,
    /// Clips per class; there are 8 classes.
    #[arg(long, default_value_t = parameters::CLIPS_PER_CLASS, value_name = "N")]
    clips: usize,
    /// The seed of starts, speeds and sizes; the same seed writes the same files.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Demo(args) => demo(args),
        Command::Index(args) => index::run(args),
        Command::Check(args) => check::run(args),
        Command::Frames(args) => frames::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

fn demo(DemoArgs { folder, clips, seed }: &DemoArgs) -> anyhow::Result<()> {
    if *clips == 0 {
        return Err(bad_input("--clips: expected at least 1, got 0"));
    }
    check_output_folder("FOLDER", folder)?;
    let videos = folder.join("videos");
    let written = dataset::write(&videos, *clips, *seed)?;
    let config = folder.join("train.toml");
    let folders = parameters::Folders { videos: &videos, held_out: None, run: &folder.join("run") };
    parameters::write_config(&config, &folders, parameters::FULL, *seed)?;
    say(&format!("{written} mp4 files in {}", videos.display()));
    say(&format!("train on them: latte train --config {}", config.display()));
    Ok(())
}

/// How a manifest is read; only for the layout `manifest`.
#[derive(Debug, clap::Args)]
struct ManifestArgs {
    /// The column of a manifest that has the paths of the videos. Default: found by its name.
    #[arg(long, value_name = "NAME")]
    path_column: Option<String>,
    /// The column of the captions. Default: found by its name, if there is one.
    #[arg(long, value_name = "NAME")]
    caption_column: Option<String>,
    /// The column of the labels. Default: found by its name, if there is one.
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// The base folder of the paths in a manifest. Default: the manifest's own folder.
    #[arg(long, value_name = "DIR")]
    video_path: Option<PathBuf>,
}

impl ManifestArgs {
    fn location(&self, layout: Layout, path: &Path) -> anyhow::Result<Location> {
        let manifest = ManifestOptions {
            path_column: self.path_column.clone(),
            caption_column: self.caption_column.clone(),
            label_column: self.label_column.clone(),
            root: self.video_path.clone(),
        };
        if layout != Layout::Manifest && manifest != ManifestOptions::default() {
            return Err(bad_input(
                "--path-column, --caption-column, --label-column and --video-path are for `--layout manifest` only",
            ));
        }
        Ok(Location { layout, path: path.to_path_buf(), manifest })
    }
}

/// Prints the first of many problems on standard error, and the number of the others.
fn warn(problems: &[String], total: usize, rest: &str) {
    /// The largest number of problems that are named.
    const NAMED: usize = 20;
    for what in problems.iter().take(NAMED) {
        note(&format!("warning: {what}"));
    }
    if total > NAMED {
        note(&format!("warning: and {} more{rest}", total - NAMED));
    }
}

/// Parses the name of a layout.
pub(super) fn layout_parser() -> impl TypedValueParser<Value = Layout> {
    PossibleValuesParser::new(Layout::ALL.map(Layout::name))
        .map(|name| Layout::ALL.into_iter().find(|layout| layout.name() == name).unwrap_or_default())
}

/// Parses the name of a decoder, as configurations spell it.
pub(super) fn decoder_parser() -> impl TypedValueParser<Value = Decoder> {
    PossibleValuesParser::new(["auto", "libavcodec", "ffmpeg", "built_in"]).map(|name| match name.as_str() {
        "built_in" => Decoder::BuiltIn,
        "libavcodec" => Decoder::Libavcodec,
        "ffmpeg" => Decoder::Ffmpeg,
        _ => Decoder::Auto,
    })
}

/// The number of threads that the machine can run at a time.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
