//! Decodes H.265 with `rusty_h265`.

use rusty_h265::nal::unescape;
use rusty_h265::ps::{Sps, parse_sps};

use super::fault::Fault;
use super::nal::{lengths_end_at, split};
use super::picture::{Picture, Samples, Sink};
use super::role::Role;
use super::{Codec, PictureDecoder};
use crate::colour::Colour;

const NAL_SPS: u8 = 33;
const NAL_END_OF_SEQUENCE: u8 = 36;
const NAL_END_OF_STREAM: u8 = 37;

/// The configuration in the container: the `hvcC` record.
#[derive(Debug, Clone)]
pub(super) struct Config {
    length_size: usize,
    /// Parameter sets, each a NAL unit without start code.
    parameter_sets: Vec<Vec<u8>>,
}

impl Config {
    /// Reads an `hvcC` record (ISO/IEC 14496-15, 8.3.3.1).
    pub(super) fn new(hvcc: &[u8]) -> Result<Self, String> {
        Self::parse(hvcc).ok_or_else(|| "the hvcC record is cut off".into())
    }

    fn parse(hvcc: &[u8]) -> Option<Self> {
        let length_size = (hvcc.get(21)? & 3) as usize + 1;
        let num_arrays = *hvcc.get(22)?;
        let mut rest = hvcc.get(23..)?;
        let mut parameter_sets = Vec::new();
        for _ in 0..num_arrays {
            let count = u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]);
            rest = rest.get(3..)?;
            for _ in 0..count {
                let len = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]) as usize;
                parameter_sets.push(rest.get(2..2 + len)?.to_vec());
                rest = &rest[2 + len..];
            }
        }
        Some(Self { length_size, parameter_sets })
    }

    pub(super) fn length_size(&self) -> usize {
        self.length_size
    }

    /// The parameter sets, each a NAL unit without start code.
    pub(super) fn parameter_sets(&self) -> Vec<&[u8]> {
        self.parameter_sets.iter().map(Vec::as_slice).collect()
    }

    fn sps(&self) -> Option<Sps> {
        self.parameter_sets.iter().find(|nal| nal_type(nal) == Some(NAL_SPS)).and_then(|nal| read_sps(nal))
    }

    /// Width and height of a frame, if the record holds a sequence parameter set.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        let sps = self.sps()?;
        let (width, height) = sps.output_size();
        Some([width as usize, height as usize])
    }

    /// Whether decoding can begin at this sample: it holds an intra random-access picture.
    pub(super) fn is_key(&self, sample: &[u8]) -> bool {
        matches!(self.role(sample), Role::Closed | Role::Open | Role::Broken)
    }

    /// The role of the picture (ITU-T H.265, table 7-1).
    pub(super) fn role(&self, sample: &[u8]) -> Role {
        let kind = split(sample, self.length_size).filter_map(nal_type).find(|kind| *kind < 32);
        match kind {
            Some(19 | 20) => Role::Closed,
            Some(21) => Role::Open,
            Some(16..=18) => Role::Broken,
            Some(8 | 9) => Role::Skipped,
            Some(0..=5) => Role::Trailing,
            _ => Role::Other,
        }
    }
}

/// Whether the sequence ends with this sample, so that the next key frame begins a new one.
pub(super) fn ends_sequence(codec: &Codec, sample: &[u8]) -> bool {
    let Codec::H265(config) = codec else { return false };
    split(sample, config.length_size).filter_map(nal_type).any(|kind| matches!(kind, NAL_END_OF_SEQUENCE | NAL_END_OF_STREAM))
}

pub(super) struct Decoder {
    config: Config,
    inner: rusty_h265::Decoder,
    colour: Colour,
    is_started: bool,
}

impl Decoder {
    pub(super) fn new(config: Config) -> Self {
        Self { config, inner: rusty_h265::Decoder::new(), colour: Colour::default(), is_started: false }
    }

    fn feed(&mut self, nal: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault> {
        if let Some(colour) = colour(nal) {
            self.colour = colour;
        }
        self.inner.push_nal(nal, Some(index as i64)).map_err(|e| match e {
            rusty_h265::Error::Unsupported(_) | rusty_h265::Error::Unimplemented(_) => Fault::Unsupported(e.to_string()),
            _ => Fault::Damaged(e.to_string()),
        })?;
        // The decoder generates grey pictures in place of missing references.
        if self.inner.stats.generated_refs > 0 {
            return Err("it refers to a missing picture".into());
        }
        self.give(sink)
    }

    fn give(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        while let Ok(frame) = self.inner.next_frame() {
            let index = frame.pts.and_then(|p| usize::try_from(p).ok()).ok_or("the decoder returned an unknown picture")?;
            if sink.wants(index) {
                sink.put(index, picture(&frame.picture)?, self.colour)?;
            }
        }
        Ok(())
    }
}

impl PictureDecoder for Decoder {
    fn push(&mut self, data: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault> {
        if !self.is_started {
            self.is_started = true;
            for nal in self.config.parameter_sets.clone() {
                self.feed(&nal, index, sink)?;
            }
        }
        let length_size = self.config.length_size;
        lengths_end_at(data, length_size).ok_or("the lengths of its parts do not add up to its length")?;
        for nal in split(data, length_size).filter(|nal| !nal.is_empty()) {
            self.feed(nal, index, sink)?;
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        self.inner.flush();
        self.give(sink)
    }
}

/// The colour description of a NAL unit, if it is a sequence parameter set.
pub(super) fn colour(nal: &[u8]) -> Option<Colour> {
    if nal_type(nal) != Some(NAL_SPS) {
        return None;
    }
    let vui = read_sps(nal)?.vui?;
    // Without a colour description the parser leaves 0, the code of RGB, which this decoder does not support anyway.
    let matrix = if vui.matrix_coeffs == 0 { 2 } else { vui.matrix_coeffs };
    Some(Colour::from_codes(matrix, vui.video_full_range_flag))
}

fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|b| b >> 1 & 0x3F)
}

fn read_sps(nal: &[u8]) -> Option<Sps> {
    parse_sps(&unescape(nal.get(2..)?).data).ok()
}

fn picture(p: &rusty_h265::Picture) -> Result<Picture, String> {
    if p.bit_depth_luma != p.bit_depth_chroma && p.chroma_format_idc != 0 {
        return Err("luma and chroma have different bit depths".into());
    }
    let (left, top, width, height) = p.crop;
    let subsampling = match p.chroma_format_idc {
        0 | 1 => [1_u32, 1_u32],
        2 => [1, 0],
        _ => [0, 0],
    };
    let depth = u32::from(p.bit_depth_luma);
    let (chroma_width, chroma_height) = (width.div_ceil(1 << subsampling[0]), height.div_ceil(1 << subsampling[1]));
    let cut = |plane: &rusty_h265::Plane, x: usize, y: usize, w: usize, h: usize| -> Option<Vec<u16>> {
        let mut out = Vec::with_capacity(w * h);
        for row in y..y + h {
            let from = row * plane.stride + x;
            out.extend_from_slice(plane.data.get(from..from + w)?);
        }
        Some(out)
    };
    let chroma = |i: usize| {
        if p.chroma_format_idc == 0 {
            Some(vec![1 << (depth - 1); chroma_width * chroma_height])
        } else {
            cut(&p.planes[i], left >> subsampling[0], top >> subsampling[1], chroma_width, chroma_height)
        }
    };
    let luma = cut(&p.planes[0], left, top, width, height);
    let (Some(y), Some(u), Some(v)) = (luma, chroma(1), chroma(2)) else {
        return Err("the visible part of a picture lies outside it".into());
    };
    Ok(Picture { width, height, depth, subsampling, samples: Samples::Words([y, u, v]) })
}
