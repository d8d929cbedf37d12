//! Decodes all codecs with the system's libavcodec.

use latte_libav::Frame;

use super::fault::Fault;
use super::picture::{Picture, Samples, Sink, words};
use super::{Codec, PictureDecoder, h264, h265, nal, vp9};
use crate::colour::Colour;

/// Reads the colour description of a NAL unit.
type ColourOf = fn(&[u8]) -> Option<Colour>;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

pub(super) struct Decoder {
    codec: Codec,
    inner: latte_libav::Decoder,
    colour: Colour,
    is_started: bool,
    /// The coded picture in the format of the library.
    packet: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(codec: Codec, max_pixels: usize) -> Result<Self, Fault> {
        let kind = match codec {
            Codec::H264(_) => latte_libav::Codec::H264,
            Codec::H265(_) => latte_libav::Codec::H265,
            Codec::Vp9 => latte_libav::Codec::Vp9,
        };
        let inner = latte_libav::Decoder::new(kind, max_pixels).map_err(|e| fault(&e))?;
        Ok(Self { codec, inner, colour: Colour::default(), is_started: false, packet: Vec::new() })
    }

    /// Appends NAL units to `packet`, with start codes.
    fn pack(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.packet.clear();
        let (parameter_sets, length_size, colour) = match &self.codec {
            Codec::H264(config) => (config.parameter_sets(), config.length_size(), h264::colour as ColourOf),
            Codec::H265(config) => (config.parameter_sets(), config.length_size(), h265::colour as ColourOf),
            Codec::Vp9 => {
                self.packet.extend_from_slice(data);
                self.colour = vp9::colour(data).unwrap_or(self.colour);
                return Ok(());
            }
        };
        let is_ready = matches!(self.codec, Codec::H264(_)) && h264::has_start_codes(data, length_size);
        if !is_ready {
            nal::lengths_end_at(data, length_size).ok_or("the lengths of its parts do not add up to its length")?;
        }
        let first = if self.is_started { Vec::new() } else { parameter_sets };
        self.is_started = true;
        let nals = nal::split(if is_ready { &[] } else { data }, length_size).filter(|nal| !nal.is_empty());
        for nal in first.into_iter().chain(nals) {
            self.colour = colour(nal).unwrap_or(self.colour);
            self.packet.extend_from_slice(&START_CODE);
            self.packet.extend_from_slice(nal);
        }
        if is_ready {
            self.packet.extend_from_slice(data);
        }
        Ok(())
    }

    fn give(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        while let Some(frame) = self.inner.next_frame().map_err(|e| fault(&e))? {
            let index = usize::try_from(frame.tag).map_err(|e| format!("the decoder returned an unknown picture: {e}"))?;
            if sink.wants(index) {
                sink.put(index, picture(&frame), self.colour)?;
            }
        }
        Ok(())
    }
}

fn fault(error: &latte_libav::Error) -> Fault {
    if error.is_unsupported() { Fault::Unsupported(error.to_string()) } else { Fault::Damaged(error.to_string()) }
}

impl PictureDecoder for Decoder {
    fn push(&mut self, data: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault> {
        self.pack(data)?;
        self.inner.push(&self.packet, index as i64).map_err(|e| fault(&e))?;
        self.give(sink)
    }

    fn tolerate_missing_references(&mut self, tolerate: bool) -> Result<(), Fault> {
        self.inner.tolerate_damage(tolerate).map_err(|e| fault(&e))
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        self.inner.finish().map_err(|e| fault(&e))?;
        self.give(sink)
    }
}

fn picture(frame: &Frame<'_>) -> Picture {
    let Frame { width, height, depth, subsampling, .. } = *frame;
    let plane = |index: usize| {
        let mut bytes = Vec::new();
        frame.planes[index].rows().for_each(|row| bytes.extend_from_slice(row));
        bytes
    };
    let samples = if let [_] = frame.planes[..] {
        // Grey has the middle value of the chroma range.
        let chroma = width.div_ceil(1 << subsampling[0]) * height.div_ceil(1 << subsampling[1]);
        if depth > 8 {
            Samples::Words([words(&plane(0)), vec![1 << (depth - 1); chroma], vec![1 << (depth - 1); chroma]])
        } else {
            Samples::Bytes([plane(0), vec![128; chroma], vec![128; chroma]])
        }
    } else if depth > 8 {
        Samples::Words([0, 1, 2].map(|i| words(&plane(i))))
    } else {
        Samples::Bytes([0, 1, 2].map(plane))
    };
    Picture { width, height, depth, subsampling, samples }
}
