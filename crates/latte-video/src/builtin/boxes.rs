//! What `re_mp4` leaves out of an mp4 file: the `colr` box of the video track.

use std::io::{Read, Seek, SeekFrom};

use crate::colour::Colour;

/// A description of a whole film's samples is far below this.
const MAX_MOOV: u64 = 256 << 20;

/// What the `colr` box of the `track`-th track says, if there is one.
pub(super) fn colour(file: &mut (impl Read + Seek), track: usize) -> Option<Colour> {
    let moov = moov(file)?;
    let trak = boxes(&moov).filter(|(name, _)| name == b"trak").nth(track)?.1;
    let mut body = trak;
    for wanted in [b"mdia", b"minf", b"stbl", b"stsd"] {
        body = boxes(body).find(|(name, _)| name == wanted)?.1;
    }
    // stsd: version, flags and a count; then sample entries, of which a visual one has 78 bytes of its own.
    let entry = boxes(body.get(8..)?).next()?.1;
    let colr = boxes(entry.get(78..)?).find(|(name, _)| name == b"colr")?.1;
    let kind = colr.get(..4)?;
    if kind != b"nclx" && kind != b"nclc" {
        return None;
    }
    let matrix = u16::from_be_bytes([*colr.get(8)?, *colr.get(9)?]);
    let full_range = kind == b"nclx" && colr.get(10)? >> 7 == 1;
    Some(Colour::from_codes(u8::try_from(matrix).unwrap_or(2), full_range))
}

/// The contents of the top-level `moov` box.
fn moov(file: &mut (impl Read + Seek)) -> Option<Vec<u8>> {
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0; 16];
        file.read_exact(&mut head[..8]).ok()?;
        let mut size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let mut header_len = 8;
        if size == 1 {
            file.read_exact(&mut head[8..]).ok()?;
            size = head[8..].iter().fold(0, |n, &b| n << 8 | u64::from(b));
            header_len = 16;
        }
        let body = size.checked_sub(header_len)?;
        if &head[4..8] == b"moov" {
            let mut moov = Vec::new();
            file.take(body.min(MAX_MOOV)).read_to_end(&mut moov).ok()?;
            return Some(moov);
        }
        at = at.checked_add(size)?;
    }
}

/// The boxes that lie one after the other in `bytes`: name and contents. Ends at the first that does not fit.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let (this, after) = rest.split_at_checked(size)?;
        rest = after;
        Some((this.get(4..8)?, this.get(8..)?))
    })
}
