//! Verifies the library before its first use.

use std::sync::OnceLock;

use crate::decoder::{Codec, Decoder};
use crate::error::{Error, Result};
use crate::library::{Library, library};

/// Three pictures of 40 × 24 pixels, cropped from 48 × 32; the last is shown before the second. H.264 with start codes.
const CLIP: &[u8] = include_bytes!("check.h264");
/// FNV-1a over the planes of the three pictures in presentation order.
const EXPECTED: u64 = 0x14fb_ad99_c9c0_72fa;

/// The version of the libavcodec in use, in libavcodec's numbering (`59.37.100` is FFmpeg 5.1): the library that `LATTE_LIBAVCODEC`
/// names, or the system's newest from FFmpeg 5 to 8. It is verified once, with a clip that is part of this program.
///
/// # Errors
///
/// Why no library is used: none is found, its version is unknown, or it does not decode the clip correctly.
pub fn version() -> Result<&'static str> {
    checked().map(|library| library.version.as_str())
}

/// The library, after verification.
fn checked() -> Result<&'static Library> {
    static CHECKED: OnceLock<Result<&'static Library>> = OnceLock::new();
    let check = || {
        let library = library()?;
        match try_out(library, CLIP) {
            Ok(found) if found == (EXPECTED, vec![0, 2, 1]) => Ok(library),
            // Some systems ship it without the patented decoders.
            Err(e @ Error::NoDecoder(_)) => Err(e),
            _ => Err(Error::Untrue(library.version.clone())),
        }
    };
    CHECKED.get_or_init(check).clone()
}

// Defined here, because only a verified library may decode for callers.
impl Decoder {
    /// Creates a decoder, which refuses pictures of more than `max_pixels` pixels before it allocates memory for them.
    ///
    /// # Errors
    ///
    /// If no library can be used (see [`version`](crate::version)), or it lacks this decoder.
    pub fn new(codec: Codec, max_pixels: usize) -> Result<Self> {
        Self::with(checked()?, codec, max_pixels)
    }
}

/// The hash of the decoded pictures, and their tags in presentation order.
fn try_out(library: &'static Library, clip: &[u8]) -> Result<(u64, Vec<i64>)> {
    let mut decoder = Decoder::with(library, Codec::H264, 48 * 32)?;
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

/// Splits the clip after each slice; the parameter sets come before the first picture.
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

    /// The library; `None`, with a message, if it is missing. A library that fails verification fails the test.
    fn found() -> Option<&'static Library> {
        match checked() {
            Ok(library) => Some(library),
            Err(e @ Error::NotFound(_)) => {
                needs::not_run("libavcodec", &e.to_string());
                None
            }
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn an_installed_library_decodes_correctly() {
        if let Some(library) = found() {
            println!("libavcodec {}", library.version);
            assert_eq!(version(), Ok(library.version.as_str()));
        }
    }

    #[test]
    fn damage_is_an_error_and_not_another_picture() {
        let Some(library) = found() else { return };
        assert_eq!(pictures(CLIP).len(), 3);
        let mut damaged = CLIP.to_vec();
        for byte in &mut damaged[120..200] {
            *byte = !*byte;
        }
        let found = try_out(library, &damaged);
        assert!(found.is_err(), "{found:?}");
        assert!(try_out(library, &CLIP[..CLIP.len() - 12]).is_ok_and(|(_, tags)| tags == [0, 1]));
        assert_eq!(try_out(library, &[]).unwrap().1, [0_i64; 0]);
    }

    #[test]
    fn a_picture_above_the_limit_is_refused() {
        let Some(library) = found() else { return };
        let first = pictures(CLIP)[0];
        assert!(Decoder::with(library, Codec::H264, 48 * 32).unwrap().push(first, 0).is_ok());
        assert!(Decoder::with(library, Codec::H264, 48 * 32 - 1).unwrap().push(first, 0).is_err());
    }

    #[test]
    fn each_thread_has_its_own_decoder() {
        let Some(library) = found() else { return };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| try_out(library, CLIP))).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap().unwrap(), (EXPECTED, vec![0, 2, 1]));
            }
        });
    }
}
