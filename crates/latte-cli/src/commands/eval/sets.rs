//! Sets of clips, as the command line names them, and their features.

use std::path::{Path, PathBuf};

use anyhow::Context;
use latte_eval::clips::{ClipList, ClipSet, SetReport};
use latte_eval::detector::{Detector, Identity};
use latte_eval::extract::{Cache, Extraction, extract, kept_layers};
use latte_eval::interop::{is_feature_file, open_features};
use latte_eval::plan::Planned;
use latte_eval::protocol::{Framing, Protocol, Sampling};
use latte_eval::score::SetFeatures;
use latte_video::Decoder;
use latte_video::dataset::{Layout, Location, WorkShard};

use super::super::data::decoder_parser;
use crate::failure::bad_input;
use crate::output::check_output_folder;
use crate::progress::StageProgress;
use crate::terminal::note;

/// How features are computed and where they are cached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FeatureArgs {
    /// The decoder of video files.
    #[arg(long, value_parser = decoder_parser(), default_value = "auto", value_name = "DECODER")]
    pub(crate) decoder: Decoder,
    /// The cache of features. Default: `eval` in this program's cache folder.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Do only part K of N of the detector's work; other processes may do the others at the same time, with the same cache or
    /// another one.
    #[arg(long, default_value = "1/1", value_name = "K/N")]
    shard: WorkShard,
}

impl FeatureArgs {
    /// The cache of features, after a check that it can be written. Without `--cache` a missing cache is not an error: features are
    /// then computed again next time, unless several processes share them.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written to, or there is none where one is needed.
    pub(crate) fn cache(&self) -> anyhow::Result<Option<Cache>> {
        let folder = self.cache.clone().or_else(|| latte::Cache::of_user().folder().map(|folder| folder.join("eval")));
        let Some(folder) = folder else {
            return Err(bad_input("--cache: missing, and the system has no folder for caches; give a folder for features"));
        };
        match check_output_folder("--cache", &folder) {
            Err(why) if self.cache.is_some() || self.shard != WorkShard::default() => Err(why),
            Err(why) => {
                note(&format!("warning: features are not cached: {why}"));
                Ok(None)
            }
            Ok(()) => Ok(Some(Cache { folder, shard: self.shard })),
        }
    }
}

/// Features, or the number of missing parts.
pub(crate) enum LoadedFeatures {
    Whole(SetFeatures),
    /// The number of parts that other processes still have to do, and the folder of the parts.
    Part(usize, PathBuf),
}

/// The sets of a command with several scores. A set is read once for all scores of the same clips.
pub(crate) struct Sets<'a> {
    args: &'a FeatureArgs,
    cache: Option<Cache>,
    clips: Vec<(Clips<'a>, ClipSet)>,
    files: Vec<(&'a Path, SetFeatures)>,
}

/// The place of a set in [`Sets`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    File(usize),
    Clips(usize),
}

/// Everything that selects the clips, besides the files on disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clips<'a> {
    pub(crate) path: &'a Path,
    /// The role of the set, which begins messages.
    pub(crate) role: &'static str,
    sampling: Sampling,
    frames: usize,
    framing: Option<Framing>,
    seed: u64,
}

impl<'a> Clips<'a> {
    /// The clips that the protocol takes from the set at `path`.
    pub(crate) fn new(path: &'a Path, role: &'static str, sampling: Sampling, protocol: &Protocol) -> Self {
        let Protocol { frames, framing, seed, .. } = *protocol;
        Self { path, role, sampling, frames, framing, seed }
    }
}

impl<'a> Sets<'a> {
    /// # Errors
    ///
    /// As [`FeatureArgs::cache`].
    pub(crate) fn new(args: &'a FeatureArgs) -> anyhow::Result<Self> {
        Ok(Self { args, cache: args.cache()?, clips: Vec::new(), files: Vec::new() })
    }

    /// Opens the path of `wanted`: a file of features, or videos, from which it lists and selects the clips.
    ///
    /// # Errors
    ///
    /// If the set cannot be read or does not fit the protocol.
    pub(crate) fn find(&mut self, wanted: Clips<'a>, protocol: &Protocol) -> anyhow::Result<Found> {
        if wanted.path.is_file() && is_feature_file(wanted.path) {
            if let Some(known) = self.files.iter().position(|(path, _)| *path == wanted.path) {
                return Ok(Found::File(known));
            }
            self.files.push((wanted.path, open_features(wanted.path)?));
            return Ok(Found::File(self.files.len() - 1));
        }
        if let Some(known) = self.clips.iter().position(|(clips, _)| *clips == wanted) {
            return Ok(Found::Clips(known));
        }
        let set = clips(wanted.path, &wanted.sampling, protocol, self.args.decoder, wanted.role)?;
        self.clips.push((wanted, set));
        Ok(Found::Clips(self.clips.len() - 1))
    }

    /// What is known about a set before its features are computed. A file must have features of the detector `identity`.
    ///
    /// # Errors
    ///
    /// If they are of another detector.
    pub(crate) fn planned(&self, found: Found, identity: &Identity) -> anyhow::Result<Planned<'_>> {
        let at = match found {
            Found::Clips(at) => return Ok(Planned::Clips(self.clips[at].1.report())),
            Found::File(at) => at,
        };
        let (path, set) = &self.files[at];
        if let SetFeatures::Each(features) = set
            && !features.origin.detector.is_same(identity)
        {
            let (theirs, ours) = (&features.origin.detector, identity);
            let what = format!("holds features of {theirs}, but the detector is {ours}; extract them again");
            return Err(bad_input(format!("{}: {what}", path.display())));
        }
        Ok(Planned::File(set))
    }

    /// The features of the set at the path of `wanted`. Warnings are also in the result.
    ///
    /// # Errors
    ///
    /// As [`Sets::find`] and [`extract`].
    pub(crate) fn take(
        &mut self,
        wanted: Clips<'a>,
        protocol: &Protocol,
        detector: &dyn Detector,
    ) -> anyhow::Result<LoadedFeatures> {
        match self.find(wanted, protocol)? {
            Found::File(at) => Ok(LoadedFeatures::Whole(self.files[at].1.clone())),
            Found::Clips(at) => features_of(&self.clips[at].1, protocol, detector, self.cache.as_ref(), wanted.role),
        }
    }
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
    cache: Option<&Cache>,
    role: &str,
) -> anyhow::Result<LoadedFeatures> {
    let stage = if role == "real" { "features of real clips" } else { "features of generated clips" };
    let mut progress = StageProgress::new(stage);
    let extraction = extract(clips, detector, protocol.preparation, &kept_layers(detector), cache, &mut progress);
    match progress.finish_with(extraction)? {
        Extraction::Whole(set) => Ok(LoadedFeatures::Whole(SetFeatures::Each(set))),
        Extraction::Part { missing, folder } => Ok(LoadedFeatures::Part(missing, folder)),
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
        .with_context(|| format!("cannot list the clips of the {role} set"))?;
    let report = set.report();
    note(&format!(
        "{role}: {} clips of {} frames, {} apart, from {} videos in {}{}",
        set.len(),
        report.frames,
        report.stride.unwrap_or(1),
        report.videos,
        path.display(),
        left_out(report)
    ));
    Ok(set)
}

/// The part of a line about a set that counts the clips left out.
fn left_out(report: &SetReport) -> String {
    let counts = [(report.too_short, "are too short"), (report.unreadable.len(), "cannot be read")];
    let said: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
}

/// The layout of a set, by its name: archives, tables, else a folder.
fn location(path: &Path) -> Location {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let holds_archives = || {
        let mut names = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        names.any(|path| path.extension().is_some_and(|ending| ending == "tar"))
    };
    let layout = match ending.as_str() {
        "tar" => Layout::Shards,
        "csv" | "tsv" | "jsonl" | "ndjson" | "json" | "parquet" => Layout::Manifest,
        _ if path.is_dir() && holds_archives() => Layout::Shards,
        _ => Layout::Folder,
    };
    Location::new(layout, path)
}
