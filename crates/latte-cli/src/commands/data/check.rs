//! `latte data check`: what is wrong with a data set.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use latte_train::{ConditionKind, DataConfig, TrainConfig};
use latte_video::dataset::{
    Expected, Finding, ImageList, Index, Layout, Location, Scan, ScanOptions, Severity, check, check_files, check_images, scan,
};
use latte_video::{ClipWindow, Decoder, Transform};

use super::{ManifestArgs, decoder_parser, layout_parser, threads};
use crate::progress::StageProgress;
use crate::terminal::say;

/// Says what is wrong with a data set before a day is spent on it.
///
/// Opens every video, decodes its last frame and hashes its content; then lists what cannot be read, what is too short for a
/// clip, sizes and frame rates that do not go together, classes that are missing, empty or rare, contents that are there
/// twice, and images of joint training that are missing. Exit code 1 if training could not run.
///
///   latte data check --layout ucf101 --path UCF-101
///   latte data check --layout skytimelapse --path sky_train --size 256 --num-frames 16 --frame-interval 3
///   latte data check --config my.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A training configuration, whose data set is looked at; it says all that the other options say.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["layout", "path", "size", "num_frames", "frame_interval",
        "num_classes", "image_list", "image_path", "path_column", "caption_column", "label_column", "video_path"])]
    config: Option<PathBuf>,
    /// Replaces one value of the configuration; may be given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", requires = "config")]
    overrides: Vec<String>,
    /// How the data set lies on disk.
    #[arg(long, default_value = "folder", value_parser = layout_parser(), value_name = "LAYOUT")]
    layout: Layout,
    /// The folder of the data set; or a manifest; or a tar file, a folder of them, or a pattern as `train-{00000..00146}.tar`.
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    path: Option<PathBuf>,
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Look at what an index says, and whether files have changed since, instead of opening every video.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Height and width of training, in pixels.
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Frames of a clip.
    #[arg(long, default_value_t = 16, value_name = "N")]
    num_frames: usize,
    /// Every how many frames one is kept.
    #[arg(long, default_value_t = 3, value_name = "N")]
    frame_interval: usize,
    /// How many classes the model has.
    #[arg(long, value_name = "N")]
    num_classes: Option<usize>,
    /// The list of the images of joint training.
    #[arg(long, value_name = "FILE", requires = "image_path")]
    image_list: Option<PathBuf>,
    /// The folder of the images of joint training.
    #[arg(long, value_name = "DIR", requires = "image_list")]
    image_path: Option<PathBuf>,
    /// Do not look for contents that are there twice, which reads every byte.
    #[arg(long)]
    no_hash: bool,
    /// What opens the files.
    #[arg(long, default_value = "auto", value_parser = decoder_parser())]
    decoder: Decoder,
}

/// How many images of a list are read.
const IMAGE_SAMPLES: usize = 200;

/// What is to be looked at.
struct Question {
    location: Location,
    index: Option<PathBuf>,
    expected: Expected,
    images: Option<(PathBuf, PathBuf)>,
    decoder: Decoder,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let question = question(args)?;
    let mut findings = Vec::new();
    let index = if let Some(file) = &question.index {
        let index = Index::read(file)?;
        findings.extend(check_files(&index, &question.location)?);
        index
    } else {
        let options = ScanOptions { decoder: question.decoder, hash: !args.no_hash, last_frame: true, threads: threads() };
        let mut progress = StageProgress::new("looking at videos");
        let scanned = scan(&question.location, &[], options, &mut |far| {
            progress.set(far.done as u64, far.total as u64);
            Ok(())
        });
        progress.finish();
        let Scan { index, skipped, .. } = scanned?;
        findings.extend(skipped.finding());
        index
    };
    findings.extend(check(&index, &question.expected));
    if let Some((list, folder)) = &question.images {
        let images = ImageList::read(question.location.layout, list, folder, &index.classes)?;
        findings.extend(check_images(&images, question.expected.size, IMAGE_SAMPLES));
        say(&format!("{} images in {}", images.len(), list.display()));
    }
    report(&index, findings)
}

fn report(index: &Index, mut findings: Vec<Finding>) -> anyhow::Result<()> {
    let classes = match index.classes.len() {
        0 => String::new(),
        n => format!(" of {n} classes"),
    };
    let frames: usize = index.entries.iter().filter_map(|entry| entry.video.as_ref()).map(|video| video.frames).sum();
    say(&format!("{} videos{classes}, {frames} frames", index.entries.len()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        say(&finding.to_string());
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    match (errors, findings.len()) {
        (0, 0) => say("nothing wrong was found"),
        (0, n) => say(&format!("training would run; {n} warnings")),
        _ => return Err(anyhow!("training could not run on this data set: {errors} errors")),
    }
    Ok(())
}

fn question(args: &Args) -> anyhow::Result<Question> {
    if let Some(file) = &args.config {
        let TrainConfig { model, data, .. } = TrainConfig::load(file, &args.overrides)?;
        let num_classes = if model.condition == ConditionKind::Class { model.num_classes } else { None };
        let DataConfig { image_list, image_path, index, .. } = data.clone();
        let expected =
            Expected { window: data.window(), transform: data.transform, size: Some(data.size.height_width()), num_classes };
        let images = image_list.zip(image_path).filter(|_| data.joint_images > 0);
        let decoder = data.decoder.into();
        return Ok(Question { location: data.location(), index: args.index.clone().or(index), expected, images, decoder });
    }
    let rules = args.layout.rules();
    let window = ClipWindow { num_frames: args.num_frames, frame_interval: args.frame_interval, rule: rules.frame_rule };
    window.indices(usize::MAX / 2, 0)?;
    let transform: Transform = rules.transform;
    let size = args.size.map(|side| [side, side]);
    Ok(Question {
        location: args.manifest.location(args.layout, args.path.as_deref().unwrap_or(Path::new("")))?,
        index: args.index.clone(),
        expected: Expected { window, transform, size, num_classes: args.num_classes },
        images: args.image_list.clone().zip(args.image_path.clone()),
        decoder: args.decoder,
    })
}
