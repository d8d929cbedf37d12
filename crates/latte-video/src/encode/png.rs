//! Writes png files.

use std::fs;
use std::path::Path;

use super::write_atomically;
use crate::{Clip, Error, Result};

/// Writes RGB pixels `[height, width, 3]` as a png.
///
/// # Errors
///
/// If `pixels` does not have `height · width · 3` values, or the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, pixels: &[u8], width: usize, height: usize) -> Result<()> {
    let path = path.as_ref();
    let bytes = encode(pixels, width, height).map_err(|what| Error::encode(path, what))?;
    write_atomically(path, &bytes)
}

/// Writes the frames of `clip` as `00000.png`, `00001.png`, … into the folder `dir`, which must be empty or not exist. The folder
/// appears when it is complete.
///
/// # Errors
///
/// If `dir` is not empty or cannot be written.
pub fn write_png_frames(dir: impl AsRef<Path>, clip: &Clip) -> Result<()> {
    let dir = dir.as_ref();
    let io = |e| Error::io(dir, e);
    if dir.exists() && fs::read_dir(dir).map_err(io)?.next().is_some() {
        return Err(Error::folder(dir, "holds files already: frames are written into a new folder"));
    }
    let partial = latte_files::temporary_beside(dir);
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(io)?;
    let written = (0..clip.num_frames())
        .try_for_each(|index| write_png(partial.join(format!("{index:05}.png")), clip.frame(index), clip.width(), clip.height()));
    let written = written.and_then(|()| {
        if dir.exists() {
            fs::remove_dir(dir).map_err(io)?;
        }
        fs::rename(&partial, dir).map_err(io)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn encode(pixels: &[u8], width: usize, height: usize) -> std::result::Result<Vec<u8>, String> {
    if width == 0 || height == 0 || width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
        return Err(format!("{} values are no RGB image of {width} × {height}", pixels.len()));
    }
    let side = |n: usize| u32::try_from(n).map_err(|e| format!("a side of {n} pixels: {e}"));
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(pixels).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}
