//! `latte data frames`: converts videos to folders of frames.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::anyhow;
use latte_video::dataset::{FrameExport, FrameFormat};
use latte_video::{Decoder, Transform};

use super::{decoder_parser, threads};
use crate::failure::{bad_input, is_of_input};
use crate::output::check_output_folder;
use crate::progress::StageProgress;
use crate::terminal::{note, say};

/// Converts the video files below a folder to folders of frames.
///
/// Each video file becomes a folder with its name without the extension, at the same place below the output folder. A folder
/// appears when it is complete, so an interrupted run resumes with the next video. Frames are png, which is lossless, or jpeg of a
/// chosen quality without chroma subsampling.
///
///   latte data frames --path UCF-101 --out UCF-101-frames
///   latte data frames --path faces --out faces-256 --size 256 --quality 95
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The folder of the video files.
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// The folder to write into; created if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write jpeg files of this quality, 1 to 100.
    #[arg(long, value_name = "Q", conflicts_with = "lossless")]
    quality: Option<u8>,
    /// Write png files (the default).
    #[arg(long)]
    lossless: bool,
    /// Resize frames to this height and width, as training would.
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// How frames are brought to `--size`: see `data.transform` in configs/folder.toml.
    #[arg(long, default_value = "resize_crop", value_parser = ["resize_crop", "crop_resize"], requires = "size")]
    transform: String,
    /// The decoder.
    #[arg(long, default_value = "auto", value_parser = decoder_parser())]
    decoder: Decoder,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let transform = if args.transform == "crop_resize" { Transform::CropResize } else { Transform::ResizeCrop };
    let format = FrameFormat { quality: args.quality, size: args.size.map(|side| [side, side]), transform };
    check_output_folder("--out", &args.out)?;
    let export = FrameExport::plan(&args.path, &args.out, format)?;
    let total = export.tasks.len();
    let mut progress = StageProgress::new("writing frames");
    let (mut videos, mut frames, mut failed) = (0, 0, Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads().min(total) {
            let (sender, export, next) = (sender.clone(), &export, &next);
            scope.spawn(move || {
                while let Some(task) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&task| task < total) {
                    // The receiver exists until it has received everything.
                    let _ = sender.send(export.write(task, args.decoder));
                }
            });
        }
        drop(sender);
        for (done, written) in receiver.into_iter().enumerate() {
            match written {
                Ok(Some(count)) => (videos, frames) = (videos + 1, frames + count),
                Ok(None) => {}
                Err(e) => failed.push(e),
            }
            progress.set(done as u64 + 1, total as u64);
        }
    });
    progress.finish();
    for what in &failed {
        note(&format!("warning: {what}"));
    }
    let before = total - videos - failed.len();
    say(&format!("{frames} frames of {videos} videos in {}; {before} videos were there before", args.out.display()));
    match failed.len() {
        0 => Ok(()),
        n => {
            let what = format!("{n} of {total} videos could not be turned into frames; the same command tries them again");
            Err(if failed.iter().all(is_of_input) { bad_input(what) } else { anyhow!(what) })
        }
    }
}
