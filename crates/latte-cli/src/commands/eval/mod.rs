//! `latte eval`: scores of sets of clips.

pub(crate) mod detectors;
mod files;
mod measure;
mod report;
mod sets;
mod texts;
mod without_detector;

use clap::Subcommand;

use crate::device::DeviceArgs;

/// Scores generated videos: FVD, KVD, FID, KID, IS, CLIPSIM and more, each with everything that the number depends on.
///
/// Sets are folders of videos or of frames, tar shards, manifests (csv, jsonl), or files of features; detectors are files that
/// `latte eval import` wrote, or `random-i3d` with untrained weights: it needs no download, but its numbers compare runs only with
/// each other. Features are cached and used again if clips, detector and preparation are the same.
///
///   latte eval import i3d-kinetics/variables.data-00000-of-00001 --out i3d.safetensors
///   latte eval fvd --real videos --fake samples --real-stride 3 --detector i3d.safetensors
///   latte eval fvd --real videos --fake samples --real-stride 3 --detector random-i3d --frames 9 --allow-few
///   latte eval flicker --fake samples
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fvd(measure::ClipArgs),
    Kvd(measure::KvdArgs),
    Fid(measure::FrameArgs),
    Kid(measure::KidArgs),
    Is(measure::IsArgs),
    Clipsim(texts::Args),
    Flicker(without_detector::FlickerArgs),
    Mmd(without_detector::MmdArgs),
    All(measure::AllArgs),
    Import(files::ImportArgs),
    Merge(files::MergeArgs),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.device.expect_cpu("judging")?;
    match &args.command {
        Command::Fvd(args) => measure::fvd(args),
        Command::Kvd(args) => measure::kvd(args),
        Command::Fid(args) => measure::fid(args),
        Command::Kid(args) => measure::kid(args),
        Command::Is(args) => measure::is(args),
        Command::Clipsim(args) => texts::run(args),
        Command::Flicker(args) => without_detector::flicker(args),
        Command::Mmd(args) => without_detector::mmd(args),
        Command::All(args) => measure::all(args),
        Command::Import(args) => files::import(args),
        Command::Merge(args) => files::merge(args),
    }
}
