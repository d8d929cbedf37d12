//! Applies the loss of JPEG compression to a frame without writing a file: the frames behind some published numbers were stored as
//! JPEG.
//!
//! The integer arithmetic is that of libjpeg(-turbo) with its default settings: 4:2:0 chroma subsampling, the accurate integer DCT,
//! smooth chroma upsampling. So the pixels are those that Pillow reads after it wrote the frame. The lossless entropy coding is
//! left out.

mod transform;

use rayon::prelude::*;

use crate::{Error, Result};
use transform::{BLOCK, Block, backward, forward};

/// Pillow's default quality.
pub const USUAL_QUALITY: u8 = 75;

/// Quantisation steps of luma at quality 50, row by row.
const BRIGHTNESS: [i32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80,
    62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98,
    112, 100, 103, 99,
];
/// Quantisation steps of chroma at quality 50, row by row.
const COLOUR: [i32; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99,
];

/// Frames after JPEG compression with `quality` 1 to 100.
///
/// # Shapes
///
/// `frames` `[f, h, w, 3]` of `size` = `[h, w]`; returns the same shape.
///
/// # Errors
///
/// If the quality is not between 1 and 100.
pub fn through_jpeg(frames: &[u8], size: [usize; 2], quality: u8) -> Result<Vec<u8>> {
    if !(1..=100).contains(&quality) {
        return Err(Error::refused("JPEG quality", format!("expected 1 to 100, got {quality}")));
    }
    let mut out = vec![0; frames.len()];
    let len = (size[0] * size[1] * 3).max(1);
    out.par_chunks_mut(len).zip(frames.par_chunks(len)).for_each(|(out, frame)| one(frame, size, quality, out));
    Ok(out)
}

fn one(frame: &[u8], size: [usize; 2], quality: u8, out: &mut [u8]) {
    let [brightness, blue, red] = planes(frame, size);
    let [luma, chroma] = [BRIGHTNESS, COLOUR].map(|table| steps(&table, quality));
    let brightness = brightness.quantised(&luma);
    let [blue, red] = [blue, red].map(|plane| plane.halved().quantised(&chroma).doubled(size));
    let width = size[1];
    for (y, row) in out.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = rgb(brightness.at(y, x), blue.at(y, x) - 128, red.at(y, x) - 128);
        }
    }
}

/// The quantisation steps at a quality, each 1 to 255.
fn steps(table: &[i32; 64], quality: u8) -> [i32; 64] {
    let quality = i32::from(quality);
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    table.map(|step| ((step * percent + 50) / 100).clamp(1, 255))
}

/// One channel, row by row.
#[derive(Debug, Clone)]
struct Plane {
    values: Vec<i32>,
    size: [usize; 2],
}

/// A fixed-point number with 16 fraction bits.
const fn fixed(value: f64) -> i32 {
    (value * 65536.0 + 0.5) as i32
}
const HALF: i32 = 1 << 15;

/// Luma and both chroma channels; a chroma of 128 is neutral.
fn planes(frame: &[u8], size: [usize; 2]) -> [Plane; 3] {
    let mut values = [const { Vec::new() }; 3];
    for pixel in frame.as_chunks::<3>().0 {
        let [r, g, b] = pixel.map(i32::from);
        let middle = (128 << 16) + HALF - 1;
        values[0].push((fixed(0.299) * r + fixed(0.587) * g + fixed(0.114) * b + HALF) >> 16);
        values[1].push((fixed(0.5) * b - fixed(0.168_735_892) * r - fixed(0.331_264_108) * g + middle) >> 16);
        values[2].push((fixed(0.5) * r - fixed(0.418_687_589) * g - fixed(0.081_312_411) * b + middle) >> 16);
    }
    values.map(|values| Plane { values, size })
}

fn rgb(brightness: i32, blue: i32, red: i32) -> [u8; 3] {
    let r = brightness + ((fixed(1.402) * red + HALF) >> 16);
    let g = brightness + ((-fixed(0.344_136_286) * blue - fixed(0.714_136_286) * red + HALF) >> 16);
    let b = brightness + ((fixed(1.772) * blue + HALF) >> 16);
    [r, g, b].map(|value| value.clamp(0, 255) as u8)
}

impl Plane {
    fn at(&self, y: usize, x: usize) -> i32 {
        self.values[y * self.size[1] + x]
    }

    /// The value at a position, or the nearest one if the position is outside.
    fn near(&self, y: usize, x: usize) -> i32 {
        self.at(y.min(self.size[0] - 1), x.min(self.size[1] - 1))
    }

    /// Halves the size; the width is padded to whole blocks. Each value is the mean of four, rounded down and up in turn.
    fn halved(&self) -> Self {
        let height = self.size[0].div_ceil(2);
        let width = self.size[1].div_ceil(2).next_multiple_of(BLOCK);
        let mut values = Vec::with_capacity(height * width);
        for y in 0..height {
            values.extend((0..width).map(|x| {
                let sum: i32 = [(0, 0), (0, 1), (1, 0), (1, 1)].iter().map(|(dy, dx)| self.near(2 * y + dy, 2 * x + dx)).sum();
                (sum + 1 + (x % 2) as i32) >> 2
            }));
        }
        Self { values, size: [height, width] }
    }

    /// Transforms all blocks, quantises their coefficients, and transforms back.
    fn quantised(&self, steps: &[i32; 64]) -> Self {
        let [height, width] = self.size;
        let mut out = self.clone();
        for top in (0..height).step_by(BLOCK) {
            for left in (0..width).step_by(BLOCK) {
                let mut block: Block = std::array::from_fn(|i| self.near(top + i / BLOCK, left + i % BLOCK) - 128);
                forward(&mut block);
                for (value, step) in block.iter_mut().zip(steps) {
                    // Coefficients are scaled by eight.
                    let eight = 8 * step;
                    *value = (value.abs() + eight / 2) / eight * value.signum() * step;
                }
                backward(&mut block);
                for (y, row) in block.chunks_exact(BLOCK).enumerate().take(height - top) {
                    for (x, value) in row.iter().enumerate().take(width - left) {
                        out.values[(top + y) * width + left + x] = (value + 128).clamp(0, 255);
                    }
                }
            }
        }
        out
    }

    /// Doubles the size to `size`: interpolates with weight ¾ for the nearer value and ¼ for the other.
    fn doubled(&self, size: [usize; 2]) -> Self {
        let [height, width] = size.map(|side| side.div_ceil(2));
        let mut values = Vec::with_capacity(size[0] * size[1]);
        for y in 0..size[0] {
            let row = y / 2;
            let other = if y % 2 == 0 { row.saturating_sub(1) } else { (row + 1).min(height - 1) };
            let sum = |x: usize| 3 * self.at(row, x) + self.at(other, x);
            values.extend((0..size[1]).map(|x| {
                let column = x / 2;
                if width <= 2 {
                    // A frame this small is not smoothed.
                    return self.at(row, column);
                }
                let (neighbour, rounding) =
                    if x % 2 == 0 { (column.saturating_sub(1), 8) } else { ((column + 1).min(width - 1), 7) };
                (3 * sum(column) + sum(neighbour) + rounding) >> 4
            }));
        }
        Self { values, size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a smooth gradient and a byte pattern on top.
    fn frame(height: usize, width: usize) -> Vec<u8> {
        let value = |y: usize, x: usize, c: usize| {
            let smooth = 40 + 3 * y * (c + 1) + 2 * x * (3 - c);
            (smooth + (y * 7919 + x * 104_729 + c * 1_299_709) % 61) % 256
        };
        (0..height * width * 3).map(|i| value(i / 3 / width, i / 3 % width, i % 3) as u8).collect()
    }

    /// The sum of all values multiplied by their positions.
    fn weighted_sum(frame: &[u8]) -> u64 {
        frame.iter().enumerate().map(|(i, v)| (i as u64 + 1) * u64::from(*v)).sum()
    }
    #[test]
    fn pixels_are_those_of_pillow() {
        // Computed by Pillow 13 with libjpeg-turbo 3.2: sides that are not multiples of a block, quantisation steps limited to 8
        // bits, and small frames.
        for (size, quality, sum, some, last) in [
            ([37, 51], 75, 2_037_097_422, [101, 102, 106], [232, 251, 245]),
            ([16, 32], 75, 195_843_096, [101, 102, 106], [0, 75, 0]),
            ([37, 51], 20, 2_042_103_940, [98, 116, 120], [222, 248, 249]),
            ([9, 3], 75, 355_899, [98, 127, 125], [106, 90, 163]),
        ] {
            let found = through_jpeg(&frame(size[0], size[1]), size, quality).unwrap();
            let at = (5 * size[1] + 2) * 3;
            assert_eq!((&found[at..at + 3], &found[found.len() - 3..]), (&some[..], &last[..]), "{size:?} {quality}");
            assert_eq!(weighted_sum(&found), sum, "{size:?} {quality}");
        }
    }

    #[test]
    fn frames_do_not_depend_on_each_other_and_other_qualities_are_refused() {
        let frames = [frame(8, 16), vec![200; 8 * 16 * 3]].concat();
        let both = through_jpeg(&frames, [8, 16], USUAL_QUALITY).unwrap();
        assert_eq!(both[..8 * 16 * 3], through_jpeg(&frames[..8 * 16 * 3], [8, 16], 75).unwrap());
        // A grey level that is a multiple of the quantisation step is unchanged.
        assert!(both[8 * 16 * 3..].iter().all(|&v| v == 200));
        assert!(through_jpeg(&frames, [8, 16], 0).is_err() && through_jpeg(&frames, [8, 16], 101).is_err());
    }
}
