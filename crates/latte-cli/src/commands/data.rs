//! `latte data`: makes data sets.

use std::path::PathBuf;

use clap::Subcommand;

use crate::demo::{dataset, parameters};
use crate::failure::bad_input;
use crate::terminal::say;

/// Makes data sets to train on.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    set: Set,
}

#[derive(Debug, Subcommand)]
enum Set {
    /// Writes the demo's data set: mp4 files of moving shapes, a sub-folder per class, and a configuration to train on them.
    ///
    ///   latte data demo clips
    ///   latte train --config clips/train.toml
    #[command(verbatim_doc_comment)]
    Demo {
        /// The folder to write into; made if it does not exist.
        folder: PathBuf,
        /// How many clips each of the 8 classes gets.
        #[arg(long, default_value_t = parameters::CLIPS_PER_CLASS, value_name = "N")]
        clips: usize,
        /// Where the random starts, speeds and sizes come from; the same seed writes the same files.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Set::Demo { folder, clips, seed } = &args.set;
    if *clips == 0 {
        return Err(bad_input("--clips: expected at least 1, got 0"));
    }
    let videos = folder.join("videos");
    let written = dataset::write(&videos, *clips, *seed)?;
    let config = folder.join("train.toml");
    parameters::write_config(&config, &videos, &folder.join("run"), parameters::FULL, *seed)?;
    say(&format!("{written} mp4 files in {}", videos.display()));
    say(&format!("train on them: latte train --config {}", config.display()));
    Ok(())
}
