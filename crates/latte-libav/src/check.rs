//! Whether the library that was found does what is expected of it.

use std::sync::OnceLock;

use crate::decoder::{Codec, Decoder};
use crate::error::Result;

/// Three pictures of 40 × 24 pixels, cut out of 48 × 32, the last shown before the second: H.264 after start codes.
const CLIP: &[u8] = include_bytes!("check.h264");
/// FNV-1a over the planes of the three, in order of presentation.
const EXPECTED: u64 = 0x14fb_ad99_c9c0_72fa;

/// Whether a libavcodec is found that can be used: the one that `LATTE_LIBAVCODEC` names, or the system's, from FFmpeg 5 to 9.
///
/// It is tried out once, on a clip that is part of this program.
pub fn is_available() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| try_out(CLIP).is_ok_and(|found| found == (EXPECTED, vec![0, 2, 1])))
}

/// The hash of the decoded pictures, and their tags in order of presentation.
fn try_out(clip: &[u8]) -> Result<(u64, Vec<i64>)> {
    let mut decoder = Decoder::new(Codec::H264)?;
    let mut found = (0xcbf2_9ce4_8422_2325, Vec::new());
    for (tag, picture) in pictures(clip).into_iter().enumerate() {
        decoder.push(picture, tag as i64)?;
        take(&mut decoder, &mut found)?;
    }
    decoder.finish()?;
    take(&mut decoder, &mut found)?;
    Ok(found)
}

fn take(decoder: &mut Decoder, (hash, tags): &mut (u64, Vec<i64>)) -> Result<()> {
    while let Some(frame) = decoder.next_frame()? {
        tags.push(frame.tag);
        for &byte in frame.planes.iter().flat_map(|plane| plane.rows().flatten()) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(())
}

/// Splits the clip behind each slice; the parameter sets lie before the first.
fn pictures(clip: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..clip.len().saturating_sub(4)).filter(|&i| clip[i..i + 3] == [0, 0, 1]).collect();
    let (mut pictures, mut from) = (Vec::new(), 0);
    for (i, &start) in starts.iter().enumerate() {
        if matches!(clip[start + 3] & 0x1F, 1 | 5) {
            let to = starts.get(i + 1).copied().unwrap_or(clip.len());
            pictures.push(&clip[from..to]);
            from = to;
        }
    }
    pictures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_found_works() {
        if crate::version().is_none() {
            println!("NOT RUN: libavcodec is not found on this machine");
            return;
        }
        assert!(is_available(), "libavcodec {:?} is found but does not decode as it should", crate::version());
    }

    #[test]
    fn damage_is_an_error_and_not_another_picture() {
        if !is_available() {
            println!("NOT RUN: libavcodec is not found on this machine");
            return;
        }
        assert_eq!(pictures(CLIP).len(), 3);
        let mut damaged = CLIP.to_vec();
        for byte in &mut damaged[120..200] {
            *byte = !*byte;
        }
        let found = try_out(&damaged);
        assert!(found.is_err(), "{found:?}");
        assert!(try_out(&CLIP[..CLIP.len() - 12]).is_ok_and(|(_, tags)| tags == [0, 1]));
        assert_eq!(try_out(&[]).unwrap().1, [0_i64; 0]);
    }
}
