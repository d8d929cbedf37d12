//! Decodes VP9 with `rusty_vp9`.

use rusty_vp9::{Error, Vp9Decoder};

use super::PictureDecoder;
use super::fault::Fault;
use super::picture::{Picture, Samples, Sink, words};
use crate::colour::{Colour, Matrix};

pub(super) struct Decoder {
    inner: Vp9Decoder,
    colour: Colour,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { inner: Vp9Decoder::new(), colour: Colour::default() }
    }

    fn give(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        // `Again` is also returned if one of several coded frames of a packet was decoded but is not shown.
        let mut fruitless = 0;
        while fruitless < 16 {
            match self.inner.next_frame() {
                Ok(frame) => {
                    let index =
                        frame.pts.and_then(|p| usize::try_from(p).ok()).ok_or("the decoder returned an unknown picture")?;
                    if sink.wants(index) {
                        let Ok([y, u, v]) = <[Vec<u8>; 3]>::try_from(frame.planes) else {
                            return Err("a picture does not have three planes".into());
                        };
                        let samples = if frame.bit_depth > 8 {
                            Samples::Words([words(&y), words(&u), words(&v)])
                        } else {
                            Samples::Bytes([y, u, v])
                        };
                        let picture = Picture {
                            width: frame.width as usize,
                            height: frame.height as usize,
                            depth: frame.bit_depth,
                            subsampling: [frame.subsampling_x, frame.subsampling_y],
                            samples,
                        };
                        sink.put(index, picture, self.colour)?;
                    }
                }
                Err(Error::Again) => fruitless += 1,
                Err(Error::Eof) => return Ok(()),
                Err(e) => return Err(fault(&e)),
            }
        }
        Ok(())
    }
}

impl PictureDecoder for Decoder {
    fn push(&mut self, data: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault> {
        if let Some(colour) = colour(data) {
            self.colour = colour;
        }
        self.inner.push(data, Some(index as i64)).map_err(|e| fault(&e))?;
        self.give(sink)
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        self.inner.flush();
        self.give(sink)
    }
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Unsupported(_) | Error::Unimplemented(_) => Fault::Unsupported(error.to_string()),
        _ => Fault::Damaged(error.to_string()),
    }
}

/// Whether decoding can begin at this packet.
pub(super) fn is_key(packet: &[u8]) -> bool {
    header(packet).is_some_and(|h| h.is_key)
}

/// The colour description of a packet; only key frames have one.
pub(super) fn colour(packet: &[u8]) -> Option<Colour> {
    header(packet)?.colour
}

struct Header {
    is_key: bool,
    colour: Option<Colour>,
}

/// Parses the start of the uncompressed header (VP9 specification, 6.2), which `rusty_vp9` does not expose.
fn header(packet: &[u8]) -> Option<Header> {
    let mut position = 0;
    let mut bits = |n: usize| -> Option<u32> {
        let mut value = 0;
        for _ in 0..n {
            let bit = packet.get(position / 8)? >> (7 - position % 8) & 1;
            value = value << 1 | u32::from(bit);
            position += 1;
        }
        Some(value)
    };
    if bits(2)? != 2 {
        return None;
    }
    let profile = bits(1)? | bits(1)? << 1;
    if profile == 3 {
        bits(1)?;
    }
    let shows_existing = bits(1)? == 1;
    if shows_existing {
        return Some(Header { is_key: false, colour: None });
    }
    let is_key = bits(1)? == 0;
    bits(2)?; // shown, error resilient
    if !is_key || bits(24)? != 0x49_8342 {
        return Some(Header { is_key: false, colour: None });
    }
    if profile >= 2 {
        bits(1)?; // 10 or 12 bits
    }
    let matrix = match bits(3)? {
        1 | 3 => Some(Matrix::Bt601),
        2 => Some(Matrix::Bt709),
        4 => Some(Matrix::Smpte240),
        5 => Some(Matrix::Bt2020),
        7 => return Some(Header { is_key, colour: Some(Colour { matrix: Some(Matrix::Identity), full_range: Some(true) }) }),
        _ => None,
    };
    let full_range = bits(1)? == 1;
    Some(Header { is_key, colour: Some(Colour { matrix, full_range: Some(full_range) }) })
}
