//! Generated clips, and contact sheets of several.

use std::path::Path;

use latte_video::Clip;
use latte_video::encode::{Image, Mp4Options, SheetRow, contact_sheet, write_gif, write_mp4, write_png_frames};

use crate::Result;

/// The most rows of a contact sheet: more would be too small to see.
pub const MAX_ROWS: usize = 64;
/// Frames in a row.
const COLUMNS: usize = 8;
/// The minimum width of a frame on contact sheets, in pixels.
const MIN_FRAME_WIDTH: usize = 64;

/// A generated clip.
#[derive(Debug, Clone)]
pub struct GeneratedClip {
    /// A name for its file, without an extension, from class or prompt and seed. Different requests to the same model have
    /// different names, except prompts that differ only in characters that file names cannot have.
    pub name: String,
    /// The same as a readable label.
    pub label: String,
    /// The class number; `None` for models without classes.
    pub class: Option<u32>,
    /// The seed of its noise.
    pub seed: u64,
    /// The pixels.
    pub clip: Clip,
}

impl GeneratedClip {
    /// Writes an mp4 file (H.264, which plays in browsers), which replaces an existing file. A failed write leaves no partial file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save_mp4(&self, path: impl AsRef<Path>) -> Result<()> {
        write_mp4(path, &self.clip, &Mp4Options::default())?;
        Ok(())
    }

    /// Writes a GIF; otherwise as [`save_mp4`](Self::save_mp4).
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save_gif(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(write_gif(path, &self.clip)?)
    }

    /// Writes a folder of PNG files, one per frame, without loss.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn save_png_frames(&self, folder: impl AsRef<Path>) -> Result<()> {
        Ok(write_png_frames(folder, &self.clip)?)
    }
}

/// Draws clips in one image, one row per clip, at most the first [`MAX_ROWS`].
///
/// # Errors
///
/// If there is no clip.
pub fn contact_sheet_of<'a>(clips: impl IntoIterator<Item = &'a GeneratedClip>) -> Result<Image> {
    let rows: Vec<SheetRow<'_>> =
        clips.into_iter().take(MAX_ROWS).map(|made| SheetRow { label: &made.label, clip: &made.clip }).collect();
    Ok(contact_sheet(&rows, COLUMNS, MIN_FRAME_WIDTH)?)
}
