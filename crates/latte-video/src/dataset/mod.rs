//! A data set: its videos, their locations, labels, captions and metadata.

mod braces;
mod check;
mod classes;
mod content;
mod csv;
mod diagnostic;
mod export;
mod image_list;
mod index;
mod json;
mod jsonl;
mod layout;
mod location;
mod manifest;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod scan;
mod shards;
mod skipped;
mod table;
mod tar;
mod work_shard;

use std::path::{Path, PathBuf};

use crate::VideoInfo;

pub use crate::media_location::MediaLocation;
pub use check::{Expected, check, check_files, check_images};
pub use diagnostic::{Diagnostic, Severity};
pub use export::{FrameExport, FrameFormat};
pub use image_list::ImageList;
pub use index::{Index, IndexEntry, Probe, Signature};
pub use layout::{Layout, LayoutRules};
pub use location::Location;
pub use manifest::ManifestOptions;
pub use scan::{Scan, ScanOptions, scan, update_index};
pub use skipped::Skipped;
pub use work_shard::WorkShard;

/// The videos of a data set, in an order that depends only on the data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The folder or file that it was read from.
    pub root: PathBuf,
    /// All videos.
    pub items: Vec<Item>,
    /// The names of the classes; a label is an index into this list. Empty without classes.
    pub classes: Vec<String>,
}

impl Dataset {
    /// A hash of all names (FNV-1a, 16 hexadecimal digits), which changes whenever a video is added, removed or renamed.
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for item in &self.items {
            for byte in item.name.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }
}

/// One video of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its unique name: its path below the root, or the path of its archive and its key there, with `/` between parts.
    pub name: String,
    /// The location of its frames.
    pub place: MediaLocation,
    /// Its class, an index into [`Dataset::classes`].
    pub label: Option<u32>,
    /// Its caption.
    pub caption: Option<String>,
    /// Its metadata, if an index has it.
    pub info: Option<VideoInfo>,
}

/// The name of the video at `path` in a data set in `root`.
fn name_below(root: &Path, path: &Path) -> String {
    let parts: Vec<_> = path.strip_prefix(root).unwrap_or(path).components().map(|c| c.as_os_str().to_string_lossy()).collect();
    // The root itself may be a folder of frames.
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}
