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
    let bytes = encode(path, clip)?;
    write_atomically(path, &bytes)
}

fn encode(path: &Path, clip: &Clip) -> Result<Vec<u8>> {
    let failed = |e: ::gif::EncodingError| Error::encode(path, e);
    let side = |n: usize| {
        u16::try_from(n).map_err(|_too_long| Error::format(path, format!("a side of {n} pixels, where a gif has at most 65535")))
    };
    let (width, height) = (side(clip.width())?, side(clip.height())?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    let hundredths = |index: usize| (index as f64 * 100.0 / clip.fps()).round();
    for index in 0..clip.num_frames() {
        // Speed 1 to 30: 10 is the palette search's own advice.
        let mut frame = Frame::from_rgb_speed(width, height, clip.frame(index), 10);
        // Browsers replace a delay below 2 by 10.
        frame.delay = (hundredths(index + 1) - hundredths(index)).clamp(2.0, f64::from(u16::MAX)) as u16;
        frame.dispose = DisposalMethod::Keep;
        encoder.write_frame(&frame).map_err(failed)?;
    }
    drop(encoder);
    Ok(bytes)
}
