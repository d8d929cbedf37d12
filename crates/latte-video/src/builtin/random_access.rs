//! Finds where decoding can begin, and which pictures cannot be decoded from there.
//!
//! A key frame of an open group of pictures is followed, in the file, by leading pictures, which are shown before it and may refer
//! to pictures before it. If a stream begins at such a key frame, its leading pictures cannot be decoded, and do not count as
//! frames of the video. ffmpeg does the same.

use std::path::Path;

use super::role::Role;
use super::{Codec, Sample, h265, vp9};
use crate::{Error, Result};

/// Where the decoding of a track begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) sample: usize,
    pub(super) role: Role,
    /// The first sample with a complete picture: after `sample` in a gradual refresh.
    pub(super) whole: usize,
}

impl Beginning {
    /// Decoding begins at `sample` with a complete picture.
    pub(super) fn at(sample: usize, role: Role) -> Self {
        Self { sample, role, whole: sample }
    }
}

/// Finds where decoding begins, and hides the samples that cannot be decoded. `read` returns the data of a sample.
pub(super) fn settle(
    path: &Path,
    codec: &Codec,
    samples: &mut [Sample],
    mut read: impl FnMut(&Sample) -> Result<Vec<u8>>,
) -> Result<Beginning> {
    // The first complete picture, and the number of reference pictures after which a gradual refresh is complete.
    let (mut first, mut refresh, mut references) = (None, None, 0_u32);
    for (index, sample) in samples.iter().enumerate() {
        let data = read(sample)?;
        let role = codec.role(&data);
        let is_reference = codec.is_reference(&data);
        if let Role::Refresh(count) = role
            && refresh.is_none()
        {
            refresh = Some((references.saturating_add(count), Beginning::at(index, role)));
        }
        let is_whole = matches!(role, Role::Closed | Role::Open | Role::Broken | Role::Intra);
        if is_whole {
            first = Some(Beginning::at(index, role));
            break;
        }
        if let Some((at, from)) = refresh
            && is_reference
            && references >= at
        {
            first = Some(Beginning { whole: index, ..from });
            break;
        }
        references += u32::from(is_reference);
    }
    let Some(beginning) = first else {
        return Err(Error::damaged(path, "it has no picture at which decoding can begin"));
    };
    let whole = beginning.whole;
    samples[..beginning.sample].iter_mut().for_each(|sample| sample.is_shown = false);
    if matches!(codec, Codec::H265(_)) {
        hide_skipped(codec, samples, whole, beginning.role, &mut read)?;
    } else if beginning.role != Role::Closed {
        let time = samples[whole].time;
        samples[beginning.sample..].iter_mut().filter(|s| s.time < time).for_each(|s| s.is_shown = false);
    }
    Ok(beginning)
}

/// Hides the leading pictures of H.265 that no decoder decodes: those after the first key frame, after a broken link, and after a
/// key frame that follows the end of a sequence.
fn hide_skipped(
    codec: &Codec,
    samples: &mut [Sample],
    first: usize,
    role: Role,
    read: &mut impl FnMut(&Sample) -> Result<Vec<u8>>,
) -> Result<()> {
    for key in first..samples.len() {
        // Leading pictures are shown before their key frame.
        let leads = |next: usize| samples.get(next).is_some_and(|next| next.time < samples[key].time);
        if !samples[key].is_key && key > first || !leads(key + 1) {
            continue;
        }
        let role = if key == first { role } else { codec.role(&read(&samples[key])?) };
        let is_cut = match role {
            Role::Broken => true,
            Role::Open => key == first || h265::ends_sequence(codec, &read(&samples[key - 1])?),
            _ => false,
        };
        for sample in samples.iter_mut().skip(key + 1) {
            if !is_cut || sample.is_key {
                break;
            }
            match codec.role(&read(sample)?) {
                Role::Skipped => sample.is_shown = false,
                Role::Trailing => break,
                _ => {}
            }
        }
    }
    Ok(())
}

/// For each sample, the key frame at which its decoding begins: the last one that is neither decoded nor shown later; `first` if
/// there is none.
pub(super) fn keys_before(samples: &[Sample], first: usize) -> Vec<usize> {
    // Candidates, ascending in both orders: a later key frame that is shown earlier replaces those before it.
    let mut keys: Vec<usize> = Vec::new();
    let key_of = |(index, sample): (usize, &Sample)| {
        if sample.is_key && index >= first {
            while keys.last().is_some_and(|&last| samples[last].time >= sample.time) {
                keys.pop();
            }
            keys.push(index);
        }
        let next = keys.partition_point(|&key| samples[key].time <= sample.time);
        next.checked_sub(1).map_or(first, |i| keys[i])
    };
    samples.iter().enumerate().map(key_of).collect()
}

impl Codec {
    /// The role of the coded picture `data`.
    pub(super) fn role(&self, data: &[u8]) -> Role {
        match self {
            Self::H264(config) => config.role(data),
            Self::H265(config) => config.role(data),
            Self::Vp9 if vp9::is_key(data) => Role::Closed,
            Self::Vp9 => Role::Other,
        }
    }

    /// Whether other pictures may refer to it, as far as the codec states it.
    fn is_reference(&self, data: &[u8]) -> bool {
        match self {
            Self::H264(config) => config.is_reference(data),
            Self::H265(_) | Self::Vp9 => true,
        }
    }
}

/// The bits of a NAL unit without emulation prevention bytes.
#[derive(Debug)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    position: usize,
}

impl Bits {
    /// Reads at most `len` bytes of `nal` from byte `from` on.
    pub(super) fn new(nal: &[u8], from: usize, len: usize) -> Self {
        let (mut bytes, mut zeros) = (Vec::new(), 0);
        for &byte in nal.get(from..).unwrap_or_default().iter().take(len) {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            bytes.push(byte);
        }
        Self { bytes, position: 0 }
    }

    /// Reads bytes without emulation prevention.
    pub(super) fn plain(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), position: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bit(&mut self) -> Option<u32> {
        let bit = self.bytes.get(self.position / 8)? >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(u32::from(bit))
    }

    /// An unsigned Exp-Golomb number (ITU-T H.264, 9.1).
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        let mut value = 1_u64;
        for _ in 0..zeros {
            value = value << 1 | u64::from(self.bit()?);
        }
        u32::try_from(value - 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::path::Path;

    use super::{Beginning, Bits, Role, keys_before, settle};
    use crate::builtin::{Codec, Sample, h264, h265};

    /// Settles pictures of the kinds that the letters stand for, at these times; returns the shown times and where decoding begins.
    fn settled(codec: &Codec, pictures: &[(char, i64)], data: impl Fn(char) -> Vec<u8>) -> Result<(Vec<i64>, Beginning), String> {
        let sample = |(i, &(kind, time)): (usize, &(char, i64))| Sample {
            offset: i as u64,
            size: 0,
            time,
            is_key: kind.is_uppercase(),
            is_shown: true,
        };
        let mut samples: Vec<Sample> = pictures.iter().enumerate().map(sample).collect();
        let read = |sample: &Sample| Ok(data(pictures[sample.offset as usize].0));
        let beginning = settle(Path::new("a"), codec, &mut samples, read).map_err(|e| e.to_string())?;
        let mut shown: Vec<i64> = samples.iter().filter(|s| s.is_shown).map(|s| s.time).collect();
        shown.sort_unstable();
        Ok((shown, beginning))
    }

    #[test]
    fn leading_pictures_of_h264_are_hidden_at_the_start_alone() {
        let codec = Codec::H264(h264::Config::new(&[1, 100, 0, 13, 0xFF, 0xE0, 0]).unwrap());
        // IDR, open key frame, complete by itself, start of a refresh that takes two reference pictures; reference, none.
        let data = |kind: char| -> Vec<u8> {
            let nals: &[&[u8]] = match kind {
                'I' => &[&[0x65, 0x88]],
                'O' => &[&[6, 6, 1, 0b1100_0100, 0x80], &[0x41, 0b1000_1000, 0x80]],
                'N' => &[&[0x41, 0b1000_1000, 0x80]],
                'R' => &[&[6, 6, 1, 0b0110_0100, 0x80], &[0x41, 0b1001_1000]],
                'p' => &[&[0x41, 0b1001_1000]],
                _ => &[&[0x01, 0b1001_1000]],
            };
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), *nal].concat()).collect()
        };
        let run = |pictures: &[(char, i64)]| settled(&codec, pictures, data);
        let at = Beginning::at;
        let open = [('O', 3), ('b', 1), ('p', 2), ('p', 6), ('b', 5), ('O', 9), ('b', 8)];
        assert_eq!(run(&open).unwrap(), (vec![3, 5, 6, 8, 9], at(0, Role::Open)));
        let closed = [('I', 3), ('p', 6), ('b', 5), ('O', 9), ('b', 8)];
        assert_eq!(run(&closed).unwrap(), (vec![3, 5, 6, 8, 9], at(0, Role::Closed)));
        let unmarked = [('N', 3), ('b', 2), ('p', 6)];
        assert_eq!(run(&unmarked).unwrap(), (vec![3, 6], at(0, Role::Intra)));
        // The stream begins in the middle of a group.
        let middle = [('p', 1), ('b', 0), ('O', 4), ('b', 3), ('p', 6)];
        assert_eq!(run(&middle).unwrap(), (vec![4, 6], at(2, Role::Open)));
        let refreshed = [('b', 0), ('R', 1), ('b', 2), ('p', 3), ('b', 4), ('p', 5), ('p', 6)];
        assert_eq!(run(&refreshed).unwrap(), (vec![5, 6], Beginning { whole: 5, ..at(1, Role::Refresh(2)) }));
        assert!(run(&[('p', 0), ('b', 1)]).unwrap_err().contains("decoding can begin"));
    }

    #[test]
    fn leading_pictures_of_h265_are_hidden_where_no_decoder_decodes_them() {
        let codec = Codec::H265(h265::Config::new(&[&[0; 21], [3, 0].as_slice()].concat()).unwrap());
        let data = |kind: char| -> Vec<u8> {
            // IDR, CRA, BLA, RASL, RADL, trailing; a trailing picture that ends the sequence.
            let kinds: &[u8] = match kind {
                'I' => &[19],
                'C' => &[32, 33, 21],
                'B' => &[16],
                's' => &[8],
                'd' => &[7],
                'e' => &[1, 36],
                _ => &[1],
            };
            kinds.iter().flat_map(|kind| [0, 0, 0, 2, kind << 1, 1]).collect()
        };
        let run = |pictures: &[(char, i64)]| settled(&codec, pictures, data).unwrap().0;
        // The second CRA is complete, and so are its leading pictures.
        assert_eq!(run(&[('C', 3), ('s', 1), ('d', 2), ('t', 4), ('C', 7), ('s', 5), ('t', 8)]), [2, 3, 4, 5, 7, 8]);
        assert_eq!(run(&[('I', 3), ('d', 2), ('t', 4), ('B', 7), ('s', 5), ('d', 6), ('t', 8)]), [2, 3, 4, 6, 7, 8]);
        assert_eq!(run(&[('I', 0), ('e', 1), ('C', 4), ('s', 3), ('t', 5)]), [0, 1, 4, 5]);
        assert_eq!(run(&[('t', 0), ('s', 1), ('C', 4), ('s', 3), ('t', 5)]), [4, 5]);
    }

    #[test]
    fn exp_golomb_numbers_are_read() {
        // 1 | 010 | 011 | 00100 | 0000 0000 1000...: 0, 1, 2, 3, then a number without an end.
        let mut bits = Bits::new(&[0xFF, 0b1010_0110, 0b0100_0000, 0, 0, 0], 1, 16);
        assert_eq!([bits.unsigned(), bits.unsigned(), bits.unsigned(), bits.unsigned()], [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(bits.unsigned(), None);
    }

    #[test]
    fn emulation_prevention_bytes_are_removed() {
        assert_eq!(Bits::new(&[9, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3], 1, 16).bytes(), [0, 0, 1, 0, 0, 0, 0, 3]);
    }

    proptest! {
        #[test]
        fn the_last_key_frame_that_is_not_later_is_found(
            pictures in prop::collection::vec((-20_i64..20, prop::bool::weighted(0.3)), 1..40), first in 0_usize..3
        ) {
            let sample = |&(time, is_key): &(i64, bool)| Sample { offset: 0, size: 0, time, is_key, is_shown: true };
            let samples: Vec<Sample> = pictures.iter().map(sample).collect();
            for (s, &key) in keys_before(&samples, first).iter().enumerate() {
                let plain = (first..=s).rev().find(|&k| samples[k].is_key && samples[k].time <= samples[s].time);
                prop_assert_eq!(key, plain.unwrap_or(first));
            }
        }
    }
}
