//! jpeg images of a given quality.

use std::path::Path;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::write_atomically;
use crate::{Error, Result};

/// Writes RGB pixels `[height, width, 3]` as a jpeg of `quality` 1 to 100, without chroma subsampling.
///
/// # Errors
///
/// If `pixels` does not have `height · width · 3` values, the quality or a side is out of range, or the file cannot be written.
pub fn write_jpeg(path: impl AsRef<Path>, pixels: &[u8], width: usize, height: usize, quality: u8) -> Result<()> {
    let path = path.as_ref();
    let bytes = encode(path, pixels, width, height, quality)?;
    write_atomically(path, &bytes)
}

fn encode(path: &Path, pixels: &[u8], width: usize, height: usize, quality: u8) -> Result<Vec<u8>> {
    if !(1..=100).contains(&quality) {
        return Err(Error::format(path, format!("a jpeg has quality 1 to 100, not {quality}")));
    }
    if width == 0 || height == 0 || width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
        return Err(Error::encode(path, format!("{} values are no RGB image of {width} × {height}", pixels.len())));
    }
    let side = |n: usize| {
        u16::try_from(n).map_err(|_too_long| Error::format(path, format!("a side of {n} pixels, where a jpeg has at most 65535")))
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder.encode(pixels, side(width)?, side(height)?, ColorType::Rgb).map_err(|e| Error::encode(path, e))?;
    Ok(bytes)
}
