//! Decodes H.264 with `rust_h264`.

use rust_h264::decoder::{ChromaFormat, Frame, OrderedDecoder};
use rust_h264::error::DecodeError;
use rust_h264::nal::{NalUnit, NalUnitType, parse_annex_b, parse_avcc, parse_avcc_config, parse_sps_info};

use super::PictureDecoder;
use super::fault::Fault;
use super::nal::{lengths_end_at, split};
use super::picture::{Picture, Samples, Sink, words};
use super::random_access::Bits;
use super::role::Role;
use crate::colour::Colour;

/// The configuration in the container.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// The `avcC` record: the parameter sets and the size of the length fields.
    avcc: Vec<u8>,
    length_size: usize,
}

impl Config {
    /// Reads an `avcC` record.
    pub(super) fn new(avcc: &[u8]) -> Result<Self, String> {
        let length_size = parse_avcc_config(avcc)?.length_size;
        Ok(Self { avcc: avcc.to_vec(), length_size })
    }

    /// Width and height of a frame, if the record holds a sequence parameter set.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        let config = parse_avcc_config(&self.avcc).ok()?;
        let info = parse_sps_info(config.sps_nals.first()?).ok()?;
        Some([info.width as usize, info.height as usize])
    }

    pub(super) fn length_size(&self) -> usize {
        self.length_size
    }

    /// The parameter sets, each a NAL unit without start code.
    pub(super) fn parameter_sets(&self) -> Vec<&[u8]> {
        let mut sets = Vec::new();
        // Five bytes of versions and sizes, then the sequence and the picture parameter sets, each list with its count.
        let mut rest = self.avcc.get(5..).unwrap_or_default();
        for count_bits in [0x1F, 0xFF] {
            let Some((&count, after)) = rest.split_first() else { break };
            rest = after;
            let list = split(rest, 2).take((count & count_bits) as usize);
            for set in list {
                rest = &rest[2 + set.len()..];
                sets.push(set);
            }
        }
        sets
    }

    /// Whether no other picture refers to this one, so that it is decoded only if it is wanted itself. Order and numbering of the
    /// others do not depend on it either: `frame_num` counts reference pictures only.
    pub(super) fn is_disposable(&self, sample: &[u8]) -> bool {
        // A malformed sample is not disposable, so that the decoder checks it.
        lengths_end_at(sample, self.length_size).is_some()
            && split(sample, self.length_size).all(|nal| {
                let Some(&header) = nal.first() else { return false };
                match NalUnitType::from(header & 0x1F) {
                    NalUnitType::Slice => header & 0x60 == 0,
                    NalUnitType::Sei | NalUnitType::AccessUnitDelimiter | NalUnitType::FillerData => true,
                    _ => false,
                }
            })
    }

    /// Whether the bitstream allows decoding to begin at this sample; used if the container does not say so.
    pub(super) fn is_key(&self, sample: &[u8]) -> bool {
        matches!(self.role(sample), Role::Closed | Role::Open)
    }

    /// Whether other pictures may refer to this one.
    pub(super) fn is_reference(&self, sample: &[u8]) -> bool {
        self.nals(sample).iter().any(|nal| matches!(nal[0] & 0x1F, 1..=5) && nal[0] & 0x60 != 0)
    }

    /// The role of the picture: an instantaneous refresh, or that of its recovery point (ITU-T H.264, D.2.8).
    pub(super) fn role(&self, sample: &[u8]) -> Role {
        let (mut recovery, mut slices, mut is_intra) = (None, 0, true);
        for nal in self.nals(sample) {
            match NalUnitType::from(nal[0] & 0x1F) {
                NalUnitType::SliceIdr => return Role::Closed,
                NalUnitType::Sei => recovery = recovery.or(recovery_point(nal)),
                NalUnitType::Slice => {
                    slices += 1;
                    let mut bits = Bits::new(nal, 1, 16);
                    let kind = bits.unsigned().and_then(|_| bits.unsigned());
                    // The types I and SI, including those that state that all slices of the picture have the type.
                    is_intra &= kind.is_some_and(|kind| matches!(kind % 5, 2 | 4));
                }
                _ => {}
            }
        }
        match recovery {
            Some(0) => Role::Open,
            _ if slices > 0 && is_intra => Role::Intra,
            Some(count) => Role::Refresh(count),
            None => Role::Other,
        }
    }

    /// The NAL units of a sample that are not empty.
    fn nals<'a>(&self, sample: &'a [u8]) -> Vec<&'a [u8]> {
        if has_start_codes(sample, self.length_size) {
            let starts: Vec<usize> = sample.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i).collect();
            let ends = starts.iter().skip(1).copied().chain([sample.len()]);
            let nals = starts.iter().zip(ends).map(|(start, end)| &sample[start + 3..end]);
            return nals.filter(|nal| !nal.is_empty()).collect();
        }
        split(sample, self.length_size).filter(|nal| !nal.is_empty()).collect()
    }
}

/// The number of reference pictures until recovery, if a message of supplemental enhancement information has it.
fn recovery_point(sei: &[u8]) -> Option<u32> {
    let bits = Bits::new(sei, 1, sei.len());
    let mut rest = bits.bytes();
    // A number is coded as the sum of any count of bytes 255 and one smaller byte.
    let number = |rest: &mut &[u8]| -> Option<usize> {
        let mut sum = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            *rest = after;
            sum += byte as usize;
            if byte < 255 {
                return Some(sum);
            }
        }
    };
    // The unit ends with one trailing byte.
    while rest.len() > 1 {
        let (kind, len) = (number(&mut rest)?, number(&mut rest)?);
        let (payload, after) = rest.split_at_checked(len)?;
        if kind == 6 {
            return Bits::plain(payload).unsigned();
        }
        rest = after;
    }
    None
}

pub(super) struct Decoder {
    config: Config,
    inner: OrderedDecoder<usize>,
    colour: Colour,
    is_started: bool,
}

impl Decoder {
    pub(super) fn new(config: Config) -> Self {
        Self { config, inner: OrderedDecoder::new(), colour: Colour::default(), is_started: false }
    }

    fn feed(&mut self, nal: &NalUnit<'_>, index: usize, sink: &mut Sink) -> Result<(), Fault> {
        if let Some(colour) = sps_colour(nal) {
            self.colour = colour;
        }
        let frames = self.inner.decode_nal_with_meta(nal, index).map_err(|e| match e {
            DecodeError::Unsupported(_) => Fault::Unsupported(e.to_string()),
            _ => Fault::Damaged(e.to_string()),
        })?;
        self.give(frames, sink)
    }

    fn give(&self, frames: Vec<(Frame, usize)>, sink: &mut Sink) -> Result<(), Fault> {
        for (frame, index) in frames {
            if sink.wants(index) {
                sink.put(index, picture(frame), self.colour)?;
            }
        }
        Ok(())
    }
}

impl PictureDecoder for Decoder {
    fn push(&mut self, data: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault> {
        if !self.is_started {
            self.is_started = true;
            let avcc = self.config.avcc.clone();
            let config = parse_avcc_config(&avcc)?;
            for nal in config.sps_nals.iter().chain(&config.pps_nals) {
                self.feed(nal, index, sink)?;
            }
        }
        let nals = if has_start_codes(data, self.config.length_size) {
            parse_annex_b(data)
        } else {
            lengths_end_at(data, self.config.length_size).ok_or("the lengths of its parts do not add up to its length")?;
            parse_avcc(data, self.config.length_size)
        };
        for nal in &nals {
            self.feed(nal, index, sink)?;
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        let frames = self.inner.flush_with_meta();
        self.give(frames, sink)
    }
}

fn sps_colour(nal: &NalUnit<'_>) -> Option<Colour> {
    let info = (nal.nal_unit_type == NalUnitType::Sps).then(|| parse_sps_info(nal).ok()).flatten()?;
    Some(Colour::from_codes(info.matrix, info.full_range))
}

/// The colour description of a NAL unit, if it is a sequence parameter set.
pub(super) fn colour(nal: &[u8]) -> Option<Colour> {
    if NalUnitType::from(nal.first()? & 0x1F) != NalUnitType::Sps {
        return None;
    }
    let framed = [&(nal.len() as u32).to_be_bytes(), nal].concat();
    sps_colour(parse_avcc(&framed, 4).first()?)
}

/// Whether a sample has start codes instead of lengths, which some muxers write.
pub(super) fn has_start_codes(data: &[u8], length_size: usize) -> bool {
    data.starts_with(&[0, 0, 0, 1]) && lengths_end_at(data, length_size).is_none()
}

fn picture(frame: Frame) -> Picture {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let subsampling = match frame.chroma_format {
        ChromaFormat::Yuv420 => [1, 1],
        ChromaFormat::Yuv422 => [1, 0],
    };
    let depth = u32::from(frame.bit_depth);
    let samples = if depth > 8 {
        Samples::Words([words(&frame.y), words(&frame.u), words(&frame.v)])
    } else {
        Samples::Bytes([frame.y, frame.u, frame.v])
    };
    Picture { width, height, depth, subsampling, samples }
}

#[cfg(test)]
mod tests {
    use super::{Config, Role};

    #[test]
    fn only_unreferenced_pictures_are_disposable() {
        // avcC: version, profile, compatibility, level, 4-byte lengths, no parameter sets.
        let config = Config::new(&[1, 100, 0, 13, 0xFF, 0xE0, 0]).unwrap();
        let is_disposable = |headers: &[u8]| {
            let sample: Vec<u8> = headers.iter().flat_map(|&header| [0, 0, 0, 2, header, 0]).collect();
            config.is_disposable(&sample)
        };
        assert!(is_disposable(&[0x01]));
        assert!(is_disposable(&[0x09, 0x06, 0x01, 0x01]));
        // A reference picture with one slice that is not; a key picture; a picture with a parameter set.
        assert!(!is_disposable(&[0x41]) && !is_disposable(&[0x01, 0x21]) && !is_disposable(&[0x65]));
        assert!(!is_disposable(&[0x68, 0x01]));
        assert!(!config.is_disposable(&[0, 0, 0, 9, 0x01]));
    }

    #[test]
    fn roles_tell_where_decoding_can_begin() {
        let config = Config::new(&[1, 100, 0, 13, 0xFF, 0xE0, 0]).unwrap();
        let sample = |nals: &[&[u8]]| -> Vec<u8> {
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), *nal].concat()).collect()
        };
        // Slices: first macroblock 0 (bit 1), then the type: 7 (00010 00), all I; 5 (00110), all P; 2 (011), I.
        let (all_intra, predicted, intra): (&[u8], &[u8], &[u8]) =
            (&[0x41, 0b1000_1000, 0x80], &[0x41, 0b1001_1000], &[0x41, 0b1011_1000]);
        // A message of another type (5, three bytes), then a recovery point (6) with count 0 or 3 (00100).
        let (now, later): (&[u8], &[u8]) =
            (&[6, 5, 3, 1, 2, 3, 6, 1, 0b1100_0100, 0x80], &[6, 5, 3, 1, 2, 3, 6, 1, 0b0010_0100, 0x80]);
        assert_eq!(config.role(&sample(&[now, &[0x65, 0x88]])), Role::Closed);
        assert_eq!(config.role(&sample(&[now, all_intra])), Role::Open);
        assert_eq!(config.role(&sample(&[now, predicted])), Role::Open);
        assert_eq!(config.role(&sample(&[later, predicted])), Role::Refresh(3));
        assert_eq!(config.role(&sample(&[later, intra, all_intra])), Role::Intra);
        assert_eq!(config.role(&sample(&[intra, predicted])), Role::Other);
        assert_eq!(config.role(&sample(&[&[0x67, 1, 2]])), Role::Other);
        // The same with start codes.
        let coded: Vec<u8> = [[0, 0, 0, 1].as_slice(), now, &[0, 0, 1], all_intra].concat();
        assert_eq!(config.role(&coded), Role::Open);
        assert!(config.is_key(&coded) && config.is_reference(&coded) && !config.is_reference(&sample(&[&[1, 0x88]])));
    }
}
