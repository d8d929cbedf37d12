//! `latte data check`: finds the problems of a data set.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use latte_progress::Stage;
use latte_train::{DataCheck, TrainConfig, check_data};
use latte_video::dataset::{
    Diagnostic, Expected, ImageList, Index, Layout, Scan, ScanOptions, Severity, check, check_files, check_images, scan,
};
use latte_video::{ClipWindow, Decoder, Error, Transform};

use super::{ManifestArgs, decoder_parser, layout_parser, threads};
use crate::progress::StageProgress;
use crate::terminal::say;

/// Finds the problems of a data set before training does.
///
/// Opens every video, decodes its last frame and hashes its content; then lists unreadable videos, videos that are too short for
/// a clip, sizes and frame rates that do not fit together, missing, empty or rare classes, duplicate contents, and missing images
/// of joint training. Exit code 1 if training could not run.
///
///   latte data check --layout ucf101 --path UCF-101
///   latte data check --layout skytimelapse --path sky_train --size 256 --num-frames 16 --frame-interval 3
///   latte data check --config my.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A training configuration, whose data set is checked; it replaces all other options.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["layout", "path", "size", "num_frames", "frame_interval",
        "num_classes", "image_list", "image_path", "path_column", "caption_column", "label_column", "video_path"])]
    config: Option<PathBuf>,
    /// Replaces one value of the configuration; may be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", requires = "config")]
    overrides: Vec<String>,
    /// The layout of the data set on disk.
    #[arg(long, default_value = "folder", value_parser = layout_parser(), value_name = "LAYOUT")]
    layout: Layout,
    /// The folder of the data set; or a manifest; or a tar file, a folder of tar files, or a pattern such as
    /// `train-{00000..00146}.tar`.
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    path: Option<PathBuf>,
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Check the entries of an index, and whether files have changed since, instead of opening every video.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Height and width of training, in pixels.
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Frames of a clip.
    #[arg(long, default_value_t = 16, value_name = "N")]
    num_frames: usize,
    /// The distance of two neighbouring frames of a clip, in frames of the video.
    #[arg(long, default_value_t = 3, value_name = "N")]
    frame_interval: usize,
    /// The number of classes of the model.
    #[arg(long, value_name = "N")]
    num_classes: Option<usize>,
    /// The list of the images of joint training.
    #[arg(long, value_name = "FILE", requires = "image_path")]
    image_list: Option<PathBuf>,
    /// The folder of the images of joint training.
    #[arg(long, value_name = "DIR", requires = "image_list")]
    image_path: Option<PathBuf>,
    /// Do not look for duplicate contents, which reads every byte.
    #[arg(long)]
    no_hash: bool,
    /// The decoder.
    #[arg(long, default_value = "auto", value_parser = decoder_parser())]
    decoder: Decoder,
}

/// The number of images of a list that are read.
const IMAGE_SAMPLES: usize = 200;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let DataCheck { index, diagnostics, images } = match &args.config {
        Some(file) => of_run(args, file)?,
        None => of_options(args)?,
    };
    if let Some((list, count)) = images {
        say(&format!("{count} images in {}", list.display()));
    }
    report(&index, diagnostics)
}

fn report(index: &Index, mut diagnostics: Vec<Diagnostic>) -> anyhow::Result<()> {
    let classes = match index.classes.len() {
        0 => String::new(),
        n => format!(" of {n} classes"),
    };
    let frames: usize = index.entries.iter().filter_map(|entry| entry.video.as_ref()).map(|video| video.frames).sum();
    say(&format!("{} videos{classes}, {frames} frames", index.entries.len()));
    diagnostics.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
    for diagnostic in &diagnostics {
        say(&diagnostic.to_string());
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    match (errors, diagnostics.len()) {
        (0, 0) => say("nothing wrong was found"),
        (0, n) => say(&format!("training would run; {n} warnings")),
        _ => return Err(anyhow!("training could not run on this data set: {errors} errors")),
    }
    Ok(())
}

/// Checks the data of a training run.
fn of_run(args: &Args, file: &Path) -> anyhow::Result<DataCheck> {
    let mut config = TrainConfig::load(file, &args.overrides)?;
    if args.index.is_some() {
        config.data.index.clone_from(&args.index);
    }
    let options = options(args, config.data.decoder.into());
    let mut progress = StageProgress::new(Stage::ReadingVideos.name());
    let checked = check_data(&config, options, &mut progress);
    Ok(progress.finish_with(checked)?)
}

/// Checks a data set without a configuration.
fn of_options(args: &Args) -> anyhow::Result<DataCheck> {
    let rules = args.layout.rules();
    let window = ClipWindow { num_frames: args.num_frames, frame_interval: args.frame_interval, rule: rules.frame_rule };
    window.indices(usize::MAX / 2, 0)?;
    let transform: Transform = rules.transform;
    let expected = Expected { window, transform, size: args.size.map(|side| [side, side]), num_classes: args.num_classes };
    let location = args.manifest.location(args.layout, args.path.as_deref().unwrap_or(Path::new("")))?;
    let mut diagnostics = Vec::new();
    let index = if let Some(file) = &args.index {
        let index = Index::read(file)?;
        diagnostics.extend(check_files(&index, &location)?);
        index
    } else {
        let mut progress = StageProgress::new(Stage::ReadingVideos.name());
        let scanned = scan(&location, &[], options(args, args.decoder), &mut progress);
        match progress.finish_with(scanned) {
            Ok(Scan { index, skipped, .. }) => {
                diagnostics.extend(skipped.diagnostic());
                index
            }
            Err(e) if is_about_what_is_there(&e, &location.path, args.layout) => {
                diagnostics.push(Diagnostic { severity: Severity::Error, what: e.to_string() });
                let index = Index { layout: args.layout, root: location.path, classes: Vec::new(), entries: Vec::new() };
                return Ok(DataCheck { index, diagnostics, images: None });
            }
            Err(e) => return Err(e.into()),
        }
    };
    diagnostics.extend(check(&index, &expected));
    let mut images = None;
    if let Some((list, folder)) = args.image_list.as_ref().zip(args.image_path.as_ref()) {
        let read = ImageList::read(args.layout, list, folder, &index.classes)?;
        diagnostics.extend(check_images(&read, expected.size, IMAGE_SAMPLES));
        images = Some((list.clone(), read.len()));
    }
    Ok(DataCheck { index, diagnostics, images })
}

fn options(args: &Args, decoder: Decoder) -> ScanOptions {
    ScanOptions { decoder, hash: !args.no_hash, last_frame: true, threads: threads() }
}

/// Whether the error is about the contents of an existing data set, such as labels without classes or a folder without videos. A
/// wrong path is an error of the command instead.
fn is_about_what_is_there(error: &Error, path: &Path, layout: Layout) -> bool {
    match error {
        Error::Labels(_) => true,
        Error::Folder { .. } => path.is_dir() && !matches!(layout, Layout::Manifest | Layout::Shards),
        _ => false,
    }
}
