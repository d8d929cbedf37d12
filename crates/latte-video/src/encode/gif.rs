//! Animated gif.

use std::path::Path;

use ::gif::{DisposalMethod, Encoder, Frame, Repeat};

use super::write_atomically;
use crate::{Clip, Error, Result};

/// Writes `clip` as a gif that loops endlessly; each frame has its own palette of 256 colours. Gif delays are multiples of 1/100 s:
/// they are rounded so that errors do not accumulate. The maximum rate is 50 frames per second.
///
/// # Errors
///
/// If the file cannot be written, or a side is longer than 65535.
pub fn write_gif(path: impl AsRef<Path>, clip: &Clip) -> Result<()> {
    let path = path.as_ref();
    let bytes = encode(clip).map_err(|what| Error::encode(path, what))?;
    write_atomically(path, &bytes)
}

fn encode(clip: &Clip) -> std::result::Result<Vec<u8>, String> {
    let side = |n: usize| u16::try_from(n).map_err(|e| format!("a side of {n} pixels is too long for gif: {e}"));
    let (width, height) = (side(clip.width())?, side(clip.height())?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height, &[]).map_err(|e| e.to_string())?;
    encoder.set_repeat(Repeat::Infinite).map_err(|e| e.to_string())?;
    let hundredths = |index: usize| (index as f64 * 100.0 / clip.fps()).round();
    for index in 0..clip.num_frames() {
        // Speed 1 to 30: 10 is the palette search's own advice.
        let mut frame = Frame::from_rgb_speed(width, height, clip.frame(index), 10);
        // Browsers replace a delay below 2 by 10.
        frame.delay = (hundredths(index + 1) - hundredths(index)).clamp(2.0, f64::from(u16::MAX)) as u16;
        frame.dispose = DisposalMethod::Keep;
        encoder.write_frame(&frame).map_err(|e| e.to_string())?;
    }
    drop(encoder);
    Ok(bytes)
}
