//! Sets of clips as the command line names them, and their features.

use std::path::{Path, PathBuf};

use anyhow::Context;
use latte_eval::clips::{ClipList, ClipSet};
use latte_eval::detector::Detector;
use latte_eval::extract::{Cache, Extraction, Progress, extract, kept_taps};
use latte_eval::foreign::{is_feature_file, open_features};
use latte_eval::judge::SetFeatures;
use latte_eval::protocol::{Protocol, Sampling};
use latte_video::Decoder;
use latte_video::dataset::{Layout, Location, Share};

use super::super::data::decoder_parser;
use crate::failure::bad_input;
use crate::progress::StageProgress;
use crate::terminal::note;

/// How features are made and where they are kept.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FeatureArgs {
    /// What decodes video files.
    #[arg(long, value_parser = decoder_parser(), default_value = "auto", value_name = "DECODER")]
    pub(crate) decoder: Decoder,
    /// Where features are kept. Default: `eval` in the cache folder of this program.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Do part K of N of the detector's work only; others may do theirs at the same time, with the same cache or another one.
    #[arg(long, default_value = "1/1", value_name = "K/N")]
    shard: Share,
}

impl FeatureArgs {
    fn cache(&self) -> anyhow::Result<Cache> {
        let folder = self.cache.clone().or_else(|| crate::cache::folder().map(|folder| folder.join("eval")));
        let folder = folder.ok_or_else(|| {
            bad_input("--cache: missing, and the system names no folder for caches; say where features are kept")
        })?;
        Ok(Cache { folder, share: self.shard })
    }
}

/// Features, or how much of them is missing.
pub(crate) enum Taken {
    Whole(SetFeatures),
    /// Parts of the set that other processes have yet to do, and where they are kept.
    Part(usize, PathBuf),
}

/// The set at `path`: a file of features, or videos, of which features are taken. `role` opens messages. What is warned of is in
/// the result too.
///
/// # Errors
///
/// If the set cannot be read or does not fit the protocol.
pub(crate) fn take(
    path: &Path,
    sampling: &Sampling,
    protocol: &Protocol,
    detector: &dyn Detector,
    args: &FeatureArgs,
    role: &str,
) -> anyhow::Result<Taken> {
    if path.is_file() && is_feature_file(path) {
        let set = open_features(path)?;
        if let SetFeatures::Each(features) = &set
            && !features.origin.detector.is_same(detector.identity())
        {
            let [theirs, ours] = [&features.origin.detector, detector.identity()]
                .map(|of| format!("{} ({}, ε {:?})", of.kind, of.weights, of.batch_norm_eps.unwrap_or_default()));
            let what = format!("holds features of {theirs}, and the detector that was asked for is {ours}; take them again");
            return Err(bad_input(format!("{}: {what}", path.display())));
        }
        return Ok(Taken::Whole(set));
    }
    let clips = clips(path, sampling, protocol, args.decoder, role)?;
    features_of(&clips, protocol, detector, args, role)
}

/// The features of clips.
///
/// # Errors
///
/// As [`extract`].
pub(crate) fn features_of(
    clips: &ClipSet,
    protocol: &Protocol,
    detector: &dyn Detector,
    args: &FeatureArgs,
    role: &str,
) -> anyhow::Result<Taken> {
    let stage = if role == "real" { "features of real clips" } else { "features of generated clips" };
    let mut progress = Shown { stage: StageProgress::new(stage) };
    let extraction = extract(clips, detector, protocol.preparation, &kept_taps(detector), Some(&args.cache()?), &mut progress);
    match progress.stage.finish_with(extraction)? {
        Extraction::Whole(set) => Ok(Taken::Whole(SetFeatures::Each(set))),
        Extraction::Part { missing, folder } => Ok(Taken::Part(missing, folder)),
    }
}

/// The clips of the videos at `path`.
///
/// # Errors
///
/// As [`ClipSet::open`].
pub(crate) fn clips(
    path: &Path,
    sampling: &Sampling,
    protocol: &Protocol,
    decoder: Decoder,
    role: &str,
) -> anyhow::Result<ClipSet> {
    let set = ClipSet::open(&location(path), sampling, protocol, decoder, role)
        .with_context(|| format!("cannot take clips of the {role} set"))?;
    let report = set.report();
    note(&format!(
        "{role}: {} clips of {} frames, {} apart, from {} videos in {}{}",
        set.len(),
        report.frames,
        report.stride.unwrap_or(1),
        report.videos,
        path.display(),
        if report.too_short > 0 { format!(" ({} are too short)", report.too_short) } else { String::new() }
    ));
    Ok(set)
}

/// How a set lies on disk follows from what it is called: archives, tables, else a folder.
fn location(path: &Path) -> Location {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let holds_archives = || {
        let mut names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        names.any(|path| path.extension().is_some_and(|ending| ending == "tar"))
    };
    let layout = match ending.as_str() {
        "tar" => Layout::Shards,
        "csv" | "tsv" | "jsonl" | "parquet" => Layout::Manifest,
        _ if path.is_dir() && holds_archives() => Layout::Shards,
        _ => Layout::Folder,
    };
    Location::new(layout, path)
}

struct Shown {
    stage: StageProgress,
}

impl Progress for Shown {
    fn extracted(&mut self, done: usize, total: usize) {
        self.stage.set(done as u64, total as u64);
    }

    fn warning(&mut self, message: &str) {
        self.stage.note(&format!("warning: {message}"));
    }
}
