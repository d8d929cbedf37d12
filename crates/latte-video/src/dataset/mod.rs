//! A data set: which videos there are, where they lie, and what is known about them besides their pixels.

mod braces;
mod classes;
mod csv;
mod jsonl;
mod manifest;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod shards;
mod skipped;
mod table;
mod tar;

use std::path::PathBuf;

use crate::VideoInfo;

pub use manifest::ManifestOptions;
pub use skipped::Skipped;

/// The videos of a data set, in an order that depends on what the data set is alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The folder or file that it was read from.
    pub root: PathBuf,
    /// All videos.
    pub items: Vec<Item>,
    /// The names of the classes; a label is a place in this list. Empty without classes.
    pub classes: Vec<String>,
}

/// One video of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is called: its path below the root or its key in an archive, with `/` between parts. No two are the same.
    pub name: String,
    /// Where its frames are.
    pub place: Place,
    /// Its class.
    pub label: Option<u32>,
    /// What it shows, in words.
    pub caption: Option<String>,
    /// What the file says about itself, where an index knows it without opening the file.
    pub info: Option<VideoInfo>,
}

/// Where the frames of a video are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A video file, or a folder of frames.
    Path(PathBuf),
    /// A video file inside an archive that does not compress it.
    Archived {
        /// The archive.
        archive: PathBuf,
        /// Where the video begins in it, in bytes.
        offset: u64,
        /// How long the video is, in bytes.
        length: u64,
        /// The video's name in the archive; its ending says what it is.
        name: String,
    },
}
