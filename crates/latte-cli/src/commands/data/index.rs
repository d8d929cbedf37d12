//! `latte data index`: reads every video of a data set once.

use std::path::{Path, PathBuf};

use anyhow::Context;
use latte_progress::Stage;
use latte_video::Decoder;
use latte_video::dataset::{Layout, Scan, ScanOptions, update_index};

use super::{ManifestArgs, decoder_parser, layout_parser, threads, warn};
use crate::output::check_output_file;
use crate::progress::StageProgress;
use crate::terminal::say;

/// Reads every video of a data set and writes an index, which training reads instead of the videos.
///
/// An index is a text file with a JSON object for each video: frames, size, frame rate, class, and the error of an unreadable
/// video. An interrupted scan resumes where it stopped, and a later scan opens only videos with a new size or modification time.
///
///   latte data index --layout ucf101 --path UCF-101
///   latte data index --layout manifest --path results.csv --video-path videos
///   latte data index --layout shards --path 'train-{00000..00146}.tar'
///   latte train --config my.toml --set data.layout=ucf101 --set data.path=UCF-101 --set data.index=UCF-101.index.jsonl
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The layout of the data set on disk.
    #[arg(long, default_value = "folder", value_parser = layout_parser(), value_name = "LAYOUT")]
    layout: Layout,
    /// The folder of the data set; or a manifest; or a tar file, a folder of tar files, or a pattern such as
    /// `train-{00000..00146}.tar`.
    #[arg(long, value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    manifest: ManifestArgs,
    /// The index. Default: beside the path, with its name and `.index.jsonl`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also hash contents (SHA-256): reads every byte, and finds duplicate videos (`latte data check --index`).
    #[arg(long)]
    hash: bool,
    /// The decoder: `ffmpeg` opens every format that it reads, `built_in` needs nothing installed, `auto` is the first of
    /// libavcodec, ffmpeg and the built-in decoder that is installed and reads the file.
    #[arg(long, default_value = "auto", value_parser = decoder_parser())]
    decoder: Decoder,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(&args.path)?,
    };
    let location = args.manifest.location(args.layout, &args.path)?;
    check_output_file("--out", &out)?;
    let options = ScanOptions { decoder: args.decoder, hash: args.hash, last_frame: false, threads: threads() };
    let mut progress = StageProgress::new(Stage::ReadingVideos.name());
    let scanned = update_index(&location, &out, options, &mut progress);
    let Scan { index, opened, skipped } = progress.finish_with(scanned)?;
    let passed_over: Vec<String> = skipped.listed.iter().map(ToString::to_string).collect();
    warn(&passed_over, skipped.count, ", skipped for the same reasons");
    let unreadable: Vec<String> = index.entries.iter().filter_map(|entry| entry.error.clone()).collect();
    warn(&unreadable, unreadable.len(), ", each named in the index with its \"error\"");
    let empty: Vec<String> = index
        .empty_classes()
        .into_iter()
        .map(|class| {
            format!(
                "{}: no video in this folder, which is a class; training on classes refuses it: remove it, or put videos into it",
                args.path.join(class).display()
            )
        })
        .collect();
    warn(&empty, empty.len(), ", also empty");
    let classes = match index.classes.len() {
        0 => String::new(),
        n => format!(" of {n} classes"),
    };
    say(&format!(
        "{} videos{classes}, {} unreadable; {opened} were opened, {} known before",
        index.entries.len(),
        unreadable.len(),
        index.entries.len() - opened
    ));
    say(&format!("train on them: --set data.layout={} --set data.index={}", index.layout, out.display()));
    Ok(())
}

fn beside(folder: &Path) -> anyhow::Result<PathBuf> {
    // `.` and `..` have no file name.
    let named = match folder.file_name() {
        Some(_) => folder.to_path_buf(),
        None => folder.canonicalize().with_context(|| format!("{}", folder.display()))?,
    };
    let name = named.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(named.with_file_name(format!("{name}.index.jsonl")))
}
