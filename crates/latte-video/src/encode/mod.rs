//! Writes clips: mp4, gif, png and jpeg frames, contact sheets.
//!
//! Every file is written under a temporary name in its folder and then renamed, so that an interruption leaves no partial file.

mod contact_sheet;
mod font;
mod gif;
mod jpeg;
mod mp4;
mod png;

use std::path::Path;

pub use contact_sheet::{Image, SheetRow, contact_sheet};
pub use gif::write_gif;
pub use jpeg::write_jpeg;
pub use mp4::{Mp4Options, write_mp4};
pub use png::{write_png, write_png_frames};

use crate::{Error, Result};

/// Writes `bytes` to a temporary file and renames it to `path`.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    latte_files::write_unsynced(path, bytes).map_err(|e| Error::io(path, e))
}
