//! Writes clips: mp4, gif, png and jpeg frames, contact sheets.
//!
//! Every file is written under a temporary name in its folder and then renamed: an interrupted program leaves no half file.

mod contact_sheet;
mod font;
mod gif;
mod jpeg;
mod mp4;
mod png;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use contact_sheet::{Image, SheetRow, contact_sheet};
pub use gif::write_gif;
pub use jpeg::write_jpeg;
pub use mp4::{Mp4Options, write_mp4};
pub use png::{write_png, write_png_frames};

use crate::{Error, Result};

/// A name beside `path` that no other file has: several processes, in containers with the same ids, may write one file at once.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let random = RandomState::new().hash_one(std::process::id());
    path.with_file_name(format!(".{name}.{}-{random:016x}.tmp", std::process::id()))
}

/// Writes `bytes` to a temporary file and renames it to `path`.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let written =
        fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io(path, e)
    })
}
