//! A decoded picture in the format of the codecs.

use std::collections::BTreeSet;

use crate::colour::{Colour, Planes, write_rgb};

/// The three planes, row-major without padding.
#[derive(Debug, Clone)]
pub(super) enum Samples {
    Bytes([Vec<u8>; 3]),
    Words([Vec<u16>; 3]),
}

/// A decoded picture in Y'CbCr.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) depth: u32,
    /// log2 of the luma samples per chroma sample: [horizontally, vertically].
    pub(super) subsampling: [u32; 2],
    pub(super) samples: Samples,
}

impl Picture {
    /// Writes the picture as RGB, row-major `[h, w, 3]`.
    pub(super) fn write_rgb(&self, colour: Colour, out: &mut [u8]) {
        match &self.samples {
            Samples::Bytes(p) => write_rgb(&self.planes([&p[0], &p[1], &p[2]]), colour, out),
            Samples::Words(p) => write_rgb(&self.planes([&p[0], &p[1], &p[2]]), colour, out),
        }
    }

    fn planes<'a, T>(&self, data: [&'a [T]; 3]) -> Planes<'a, T> {
        Planes { data, width: self.width, height: self.height, depth: self.depth, subsampling: self.subsampling }
    }

    /// Whether the planes have the lengths that follow from the sizes.
    pub(super) fn is_consistent(&self) -> bool {
        let chroma = self.width.div_ceil(1 << self.subsampling[0]) * self.height.div_ceil(1 << self.subsampling[1]);
        let expected = [self.width * self.height, chroma, chroma];
        match &self.samples {
            Samples::Bytes(p) => p.iter().map(Vec::len).eq(expected),
            Samples::Words(p) => p.iter().map(Vec::len).eq(expected),
        }
    }
}

/// Converts pairs of bytes, little-endian, to numbers.
pub(super) fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect()
}

/// Collects decoded pictures; those that are not wanted are dropped without a copy.
#[derive(Debug)]
pub(super) struct Sink {
    wanted: BTreeSet<usize>,
    pictures: Vec<(usize, Picture, Colour)>,
}

impl Sink {
    pub(super) fn new(wanted: BTreeSet<usize>) -> Self {
        Self { wanted, pictures: Vec::new() }
    }

    pub(super) fn wants(&self, sample: usize) -> bool {
        self.wanted.contains(&sample)
    }

    /// Stores the picture of `sample` with the colour description of the bitstream.
    pub(super) fn put(&mut self, sample: usize, picture: Picture, colour: Colour) -> Result<(), String> {
        if !picture.is_consistent() {
            return Err(format!("a picture of {} × {} has planes of other sizes", picture.width, picture.height));
        }
        if self.wanted.remove(&sample) {
            self.pictures.push((sample, picture, colour));
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<(usize, Picture, Colour)> {
        std::mem::take(&mut self.pictures)
    }
}
