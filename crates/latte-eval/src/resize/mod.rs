//! The methods of resizing frames behind published numbers. They differ by up to 32 of 255 grey levels on noise, so a method is
//! always named.
//!
//! All are separable: along each axis, an output is a weighted sum of adjacent values (`filter.rs`).

mod filter;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use filter::Filter;

/// A method of resizing frames, named after the program that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Output `i` samples position `i · in/out`, between two pixels: `resize_bilinear` of TensorFlow 1 without aligned corners. No
    /// antialiasing.
    TfBilinear,
    /// The same with pixels as areas: position `(i + ½) · in/out − ½`. `interpolate(mode="bilinear", align_corners=False)` of
    /// PyTorch.
    HalfPixelBilinear,
    /// As `HalfPixelBilinear`, but with the aspect ratio kept: the shorter side gets the size, the longer one is rounded up and
    /// cropped at the centre. VideoGPT's method.
    ShortSideBilinear,
    /// First and last pixels stay in place: position `i · (in − 1)/(out − 1)`.
    CornerBilinear,
    /// Pillow's bilinear filter on floats, with antialiasing when the size is reduced.
    PillowBilinear,
    /// Pillow's bicubic filter on floats, with antialiasing when the size is reduced, clamped to [0, 255]. clean-fid's method.
    PillowBicubic,
    /// Pillow's bicubic filter on bytes: rounded after columns and again after rows, as in CLIP's training.
    PillowBicubicBytes,
    /// Pillow's Lanczos filter on bytes, rounded in the same way: the tools of StyleGAN-V and Latte extract frames from videos with
    /// it.
    PillowLanczosBytes,
}

impl Resize {
    /// Whether intermediate values are bytes.
    fn is_of_bytes(self) -> bool {
        matches!(self, Self::PillowBicubicBytes | Self::PillowLanczosBytes)
    }

    /// The filters along rows (from columns to columns) and across them.
    fn filters(self, from: [usize; 2], to: [usize; 2]) -> [Filter; 2] {
        if self != Self::ShortSideBilinear {
            return [1, 0].map(|axis| Filter::new(self, from[axis], to[axis]));
        }
        let scales = [0, 1].map(|axis| to[axis] as f64 / from[axis].max(1) as f64);
        // The side that gets exactly its size; for a square, the columns.
        let exact = usize::from(scales[0] <= scales[1]);
        [1, 0].map(|axis| {
            let whole = if axis == exact { to[axis] } else { (from[axis] as f64 * scales[exact]).ceil() as usize };
            let whole = whole.max(to[axis]);
            Filter::new(self, from[axis], whole).cut((whole - to[axis]) / 2, to[axis])
        })
    }

    /// Resizes one frame.
    ///
    /// # Shapes
    ///
    /// `frame` `[h, w, 3]` of `from` = `[h, w]`, 0 to 255; returns `[h', w', 3]` of `to`, 0 to 255.
    pub fn frame(self, frame: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        let [columns, rows] = self.filters(from, to);
        one(self, &columns, &rows, frame)
    }

    /// Resizes frames of one size on all threads.
    ///
    /// # Shapes
    ///
    /// `frames` `[f, h, w, 3]` of `from` = `[h, w]`; returns `[f, h', w', 3]` of `to`.
    pub fn frames(self, frames: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        let [columns, rows] = self.filters(from, to);
        let len = to[0] * to[1] * CHANNELS;
        let mut out = vec![0.0; frames.len() / (from[0] * from[1] * CHANNELS).max(1) * len];
        out.par_chunks_mut(len.max(1)).zip(frames.par_chunks(from[0] * from[1] * CHANNELS)).for_each(|(out, frame)| {
            out.copy_from_slice(&one(self, &columns, &rows, frame));
        });
        out
    }
}

const CHANNELS: usize = 3;

fn one(resize: Resize, columns: &Filter, rows: &Filter, frame: &[u8]) -> Vec<f32> {
    if resize.is_of_bytes() {
        return one_of_bytes(columns, rows, frame);
    }
    let row = columns.input() * CHANNELS;
    let narrow_row = columns.output() * CHANNELS;
    let mut narrow = vec![0f32; rows.input() * narrow_row];
    let mut values = vec![0f32; row];
    for (out, frame) in narrow.chunks_exact_mut(narrow_row).zip(frame.chunks_exact(row)) {
        for (value, &pixel) in values.iter_mut().zip(frame) {
            *value = f32::from(pixel);
        }
        columns.along_row(&values, out);
    }
    let mut out = vec![0f32; rows.output() * narrow_row];
    for (y, out) in out.chunks_exact_mut(narrow_row).enumerate() {
        rows.across_rows(&narrow, y, out);
    }
    if resize == Resize::PillowBicubic {
        for value in &mut out {
            *value = value.clamp(0.0, 255.0);
        }
    }
    out
}

/// Resizes a frame in integer arithmetic, columns first.
fn one_of_bytes(columns: &Filter, rows: &Filter, frame: &[u8]) -> Vec<f32> {
    let row = columns.input() * CHANNELS;
    let narrow_row = columns.output() * CHANNELS;
    let mut narrow = vec![0u8; rows.input() * narrow_row];
    for (out, values) in narrow.chunks_exact_mut(narrow_row.max(1)).zip(frame.chunks_exact(row.max(1))) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = columns.byte(i / CHANNELS, |column| values[column * CHANNELS + i % CHANNELS]);
        }
    }
    let place = |i: usize| rows.byte(i / narrow_row, |row| narrow[row * narrow_row + i % narrow_row]);
    (0..rows.output() * narrow_row).map(|i| f32::from(place(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Resize; 8] = [
        Resize::TfBilinear,
        Resize::HalfPixelBilinear,
        Resize::CornerBilinear,
        Resize::PillowBilinear,
        Resize::PillowBicubic,
        Resize::PillowBicubicBytes,
        Resize::PillowLanczosBytes,
        Resize::ShortSideBilinear,
    ];

    /// A row of grey pixels.
    fn grey(row: &[u8]) -> Vec<u8> {
        row.iter().flat_map(|&v| [v; 3]).collect()
    }

    fn resized(resize: Resize, row: &[u8], width: usize) -> Vec<f32> {
        resize.frame(&grey(row), [1, row.len()], [1, width]).chunks_exact(3).map(|p| p[0]).collect()
    }

    fn near(ours: &[f32], expected: &[f32]) {
        assert_eq!(ours.len(), expected.len());
        for (a, b) in ours.iter().zip(expected) {
            assert!((a - b).abs() < 1e-3, "{ours:?} is not {expected:?}");
        }
    }

    #[test]
    fn sample_positions_are_those_of_each_method() {
        // Three pixels become six: in/out is ½.
        let row = [0, 100, 200];
        near(&resized(Resize::TfBilinear, &row, 6), &[0.0, 50.0, 100.0, 150.0, 200.0, 200.0]);
        near(&resized(Resize::HalfPixelBilinear, &row, 6), &[0.0, 25.0, 75.0, 125.0, 175.0, 200.0]);
        near(&resized(Resize::CornerBilinear, &row, 6), &[0.0, 40.0, 80.0, 120.0, 160.0, 200.0]);
        near(&resized(Resize::PillowBilinear, &row, 6), &[0.0, 25.0, 75.0, 125.0, 175.0, 200.0]);
    }

    #[test]
    fn only_the_methods_of_pillow_use_antialiasing() {
        // Four pixels become two. A triangle of half-width 2 around 1 has the weights 3, 3, 1 of 7 at −½, ½ and 1½ from its middle.
        let row = [70, 0, 0, 0];
        near(&resized(Resize::PillowBilinear, &row, 2), &[30.0, 0.0]);
        near(&resized(Resize::TfBilinear, &row, 2), &[70.0, 0.0]);
        near(&resized(Resize::HalfPixelBilinear, &row, 2), &[35.0, 0.0]);
    }

    #[test]
    fn lanczos_is_pillows() {
        let row = [0, 255, 30, 200, 90, 10, 250, 128, 77, 5, 60, 180];
        near(&resized(Resize::PillowLanczosBytes, &row, 5), &[118.0, 114.0, 134.0, 85.0, 83.0]);
        let wide = [0, 108, 255, 118, 35, 169, 197, 90, 0, 50, 218, 238, 128, 91, 62, 13, 4, 60, 145, 191].map(|v| v as f32);
        assert_eq!(resized(Resize::PillowLanczosBytes, &row, 20), wide);
    }

    #[test]
    fn the_shorter_side_gets_the_size_and_the_longer_one_is_cropped() {
        // 2 × 7 to 4 × 4: 7 columns become 14; 5 are removed on either side.
        let frame: Vec<u8> = (0..2 * 7).flat_map(|i| [(i % 7 * 20) as u8; 3]).collect();
        let out = Resize::ShortSideBilinear.frame(&frame, [2, 7], [4, 4]);
        for row in out.chunks_exact(4 * 3) {
            near(&row.iter().step_by(3).copied().collect::<Vec<_>>(), &[45.0, 55.0, 65.0, 75.0]);
        }
        // 3 × 4 to 5 × 5: 4 columns become 6⅔, rounded up to 7, which determines the scale.
        let frame: Vec<u8> = (0..3 * 4).flat_map(|i| [(i % 4 * 70) as u8; 3]).collect();
        let out = Resize::ShortSideBilinear.frame(&frame, [3, 4], [5, 5]);
        near(&out[..15].iter().step_by(3).copied().collect::<Vec<_>>(), &[25.0, 65.0, 105.0, 145.0, 185.0]);
        // All methods keep the aspect ratio of squares.
        let square: Vec<u8> = (0..5 * 5 * 3).map(|i| (i * 7 % 256) as u8).collect();
        near(
            &Resize::ShortSideBilinear.frame(&square, [5, 5], [8, 8]),
            &Resize::HalfPixelBilinear.frame(&square, [5, 5], [8, 8]),
        );
    }

    #[test]
    fn the_same_size_and_uniform_frames_are_unchanged() {
        let frame: Vec<u8> = (0..4 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        for resize in ALL {
            let same = resize.frame(&frame, [4, 5], [4, 5]);
            near(&same, &frame.iter().map(|&v| f32::from(v)).collect::<Vec<_>>());
            for value in resize.frame(&[93; 8 * 6 * 3], [8, 6], [5, 11]) {
                assert!((value - 93.0).abs() < 1e-3, "{resize:?}: {value}");
            }
        }
    }

    #[test]
    fn rows_and_columns_are_not_mixed_up() {
        // Brightness grows with the column only.
        let frame: Vec<u8> = (0..2 * 4).flat_map(|i| [(i % 4 * 10) as u8; 3]).collect();
        let out = Resize::TfBilinear.frames(&[frame.clone(), frame].concat(), [2, 4], [3, 8]);
        assert_eq!(out.len(), 2 * 3 * 8 * 3);
        for row in out.chunks_exact(8 * 3) {
            near(&row.iter().step_by(3).copied().collect::<Vec<_>>(), &[0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 30.0]);
        }
    }
}
