//! Converts u8 clips to floats of training size, and back.
//!
//! The two resizing transforms are those of the official readers: bilinear, `align_corners = false`, no antialiasing (as
//! `torch.nn.functional.interpolate`). They return values in `[0, 1]`; [`normalize`] maps them to the network's `[-1, 1]`.

use serde::{Deserialize, Serialize};

use crate::{Clip, Error, Result};

/// How frames are brought to the size of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// [`short_side_resize_center_crop`] (FaceForensics, UCF101).
    #[default]
    ResizeCrop,
    /// [`center_crop_resize`] (SkyTimelapse).
    CropResize,
    /// No resizing: frames have the size already (Taichi-HD).
    None,
}

impl Transform {
    /// Converts `[f, h, w, 3]` u8 to `[f, 3, height, width]` in `[-1, 1]`; `size` is `[height, width]`.
    ///
    /// # Errors
    ///
    /// With [`Transform::None`], if the frames have another size.
    pub fn apply(self, clip: &Clip, size: [usize; 2]) -> Result<Vec<f32>> {
        let from = [clip.height(), clip.width()];
        let taps = match self {
            Self::ResizeCrop => resize_crop_taps(from, size),
            Self::CropResize => crop_resize_taps(from, size),
            Self::None if from == size => size.map(identity_taps),
            Self::None => {
                return Err(Error::Shape(format!(
                    "frames of {} × {} (height × width) where {} × {} was expected: without a transform both must be equal",
                    from[0], from[1], size[0], size[1]
                )));
            }
        };
        Ok(sample(clip, &taps, signed))
    }
}

/// The source of one output row (or column): two source lines, and the weight of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

/// FaceForensics and UCF101: resizes so that the frame just covers `size`, then crops the centre.
///
/// `size` is `[height, width]`. Returns f32 in `[0, 1]`, `[f, 3, height, width]`. For a square, the scale is `size / short side`;
/// positions use that scale and not the ratio of the rounded sizes. If rounding down would make a side one too short (the reference
/// then fails), the side is `size`.
pub fn short_side_resize_center_crop(clip: &Clip, size: [usize; 2]) -> Vec<f32> {
    sample(clip, &resize_crop_taps([clip.height(), clip.width()], size), |p| p)
}

/// SkyTimelapse: crops the largest centred area with the aspect ratio of `size` (for a square, the short side), then resizes.
///
/// `size` is `[height, width]`. Returns f32 in `[0, 1]`, `[f, 3, height, width]`.
pub fn center_crop_resize(clip: &Clip, size: [usize; 2]) -> Vec<f32> {
    sample(clip, &crop_resize_taps([clip.height(), clip.width()], size), |p| p)
}

/// Taichi: no resizing. f32 in `[0, 1]`, `[f, 3, h, w]`.
pub fn to_float(clip: &Clip) -> Vec<f32> {
    sample(clip, &[clip.height(), clip.width()].map(identity_taps), |p| p)
}

/// Maps `[0, 1]` to `[-1, 1]` in place.
pub fn normalize(pixels: &mut [f32]) {
    for p in pixels {
        *p = signed(*p);
    }
}

fn signed(p: f32) -> f32 {
    (p - 0.5) / 0.5
}

/// Converts pixels in `[-1, 1]`, `[f, 3, h, w]`, to a clip: rounded to the nearest of 256 levels, clamped. NaN becomes black.
///
/// `shape` is `[f, h, w]`.
///
/// # Errors
///
/// If `pixels` does not match `shape`, an axis is zero, or `fps` is not a positive number.
pub fn to_clip(pixels: &[f32], shape: [usize; 3], fps: f64) -> Result<Clip> {
    let [frames, height, width] = shape;
    let area = height * width;
    if pixels.len() != frames * 3 * area {
        return Err(Error::Shape(format!(
            "pixels of shape [{frames}, 3, {height}, {width}] do not have {} values",
            pixels.len()
        )));
    }
    let mut out = vec![0; pixels.len()];
    for (frame, to) in pixels.chunks_exact((3 * area).max(1)).zip(out.chunks_exact_mut((3 * area).max(1))) {
        for (channel, plane) in frame.chunks_exact(area).enumerate() {
            for (i, &v) in plane.iter().enumerate() {
                // [f, 3, h, w] -> [f, h, w, 3]
                to[i * 3 + channel] = level(v);
            }
        }
    }
    Clip::new(out, [frames, height, width, 3], fps)
}

fn level(v: f32) -> u8 {
    // Rounds half up, like the official samplers.
    ((v * 0.5 + 0.5) * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}

/// `round((outer − inner) / 2)`, half to even as in Python.
fn center_offset(outer: usize, inner: usize) -> usize {
    let twice = outer - inner;
    twice / 2 + usize::from(twice % 4 == 3)
}

/// The taps of both axes, rows first, for [`short_side_resize_center_crop`]. Sizes are `[height, width]`.
fn resize_crop_taps(from: [usize; 2], size: [usize; 2]) -> [Vec<Tap>; 2] {
    let scale = (size[0] as f64 / from[0] as f64).max(size[1] as f64 / from[1] as f64);
    [0, 1].map(|axis| {
        let resized = ((from[axis] as f64 * scale) as usize).max(size[axis]);
        taps(from[axis], (1.0 / scale) as f32, center_offset(resized, size[axis]), size[axis])
    })
}

/// The taps of both axes, rows first, for [`center_crop_resize`].
fn crop_resize_taps(from: [usize; 2], size: [usize; 2]) -> [Vec<Tap>; 2] {
    let scale = (size[0] as f64 / from[0] as f64).max(size[1] as f64 / from[1] as f64);
    [0, 1].map(|axis| {
        let cropped = ((size[axis] as f64 / scale).round() as usize).clamp(1, from[axis]);
        let offset = center_offset(from[axis], cropped);
        let mut taps = taps(cropped, cropped as f32 / size[axis] as f32, 0, size[axis]);
        for tap in &mut taps {
            tap.first += offset;
            tap.second += offset;
        }
        taps
    })
}

fn identity_taps(len: usize) -> Vec<Tap> {
    (0..len).map(|i| Tap { first: i, second: i, weight: 0.0 }).collect()
}

/// The taps of outputs `offset .. offset + count` on an axis of length `len`; an output covers `step` inputs.
fn taps(len: usize, step: f32, offset: usize, count: usize) -> Vec<Tap> {
    (offset..offset + count)
        .map(|i| {
            let position = (step * (i as f32 + 0.5) - 0.5).max(0.0);
            let first = (position as usize).min(len - 1);
            Tap { first, second: (first + 1).min(len - 1), weight: (position - first as f32).min(1.0) }
        })
        .collect()
}

/// Resamples `[f, h, w, 3]` to `[f, 3, rows, columns]`; `finish` maps each value in `[0, 1]`.
///
/// Columns are interpolated first, once per source row, because neighbouring outputs share rows. Values are written in order, so
/// that the output need not be filled with zeros first.
fn sample(clip: &Clip, taps: &[Vec<Tap>; 2], finish: impl Fn(f32) -> f32) -> Vec<f32> {
    let [rows, columns] = taps;
    let row_len = clip.width() * 3;
    let levels: [f32; 256] = std::array::from_fn(|level| level as f32 / 255.0);
    let mut out = Vec::with_capacity(clip.num_frames() * 3 * rows.len() * columns.len());
    let (mut above, mut below) = (vec![0.0; columns.len()], vec![0.0; columns.len()]);
    for index in 0..clip.num_frames() {
        let frame = clip.frame(index);
        for channel in 0..3 {
            let mix = |row: usize, line: &mut [f32]| {
                let row = &frame[row * row_len..][..row_len];
                for (to, tap) in line.iter_mut().zip(columns) {
                    let level = |column: usize| levels[row[column * 3 + channel] as usize];
                    *to = level(tap.first) * (1.0 - tap.weight) + level(tap.second) * tap.weight;
                }
            };
            // The source rows that `above` and `below` hold.
            let (mut is_above, mut is_below) = (None, None);
            for row in rows {
                if is_below == Some(row.first) {
                    std::mem::swap(&mut above, &mut below);
                    std::mem::swap(&mut is_above, &mut is_below);
                }
                if is_above.replace(row.first) != Some(row.first) {
                    mix(row.first, &mut above);
                }
                if is_below.replace(row.second) != Some(row.second) {
                    mix(row.second, &mut below);
                }
                out.extend(above.iter().zip(&below).map(|(a, b)| finish(a * (1.0 - row.weight) + b * row.weight)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_round_half_to_even() {
        // 0.5 → 0, 1.5 → 2, 2.5 → 2, 3.5 → 4
        assert_eq!([1, 3, 5, 7, 4].map(|d| center_offset(10 + d, 10)), [0, 2, 2, 4, 2]);
    }

    #[test]
    fn every_size_survives_rounding() {
        // 1/49 is one of the ratios for which size / dim · dim falls short of size.
        let short = (1..400_usize).flat_map(|s| (1..400_usize).map(move |d| (s, d)));
        let (size, dim) = short.clone().find(|&(s, d)| (s as f64 / d as f64 * d as f64).floor() < s as f64).unwrap();
        let clip = Clip::new(vec![200; dim * (dim + 3) * 3], [1, dim, dim + 3, 3], 8.0).unwrap();
        let out = short_side_resize_center_crop(&clip, [size, size]);
        assert_eq!(out.len(), 3 * size * size);
        assert!(out.iter().all(|&v| (v - 200.0 / 255.0).abs() < 1e-6));
    }

    /// The official readers mirror before they resize, and so does this crate: rounding a size down, and an odd number of columns
    /// to cut off, place the window differently in a mirrored frame.
    #[test]
    fn mirroring_before_resizing_is_not_mirroring_after() {
        let pixels = (0..320 * 240).flat_map(|i| [(i % 320 * 255 / 319) as u8; 3]).collect();
        let clip = Clip::new(pixels, [1, 240, 320, 3], 8.0).unwrap();
        let after: Vec<f32> =
            short_side_resize_center_crop(&clip, [256, 256]).chunks(256).flat_map(|row| row.iter().rev().copied()).collect();
        let before = short_side_resize_center_crop(&clip.mirrored(), [256, 256]);
        let apart = before.iter().zip(&after).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        // 341 columns; 42 are cut off on the left and 43 on the right: 1.25 source columns.
        assert!((0.9..1.6).contains(&(apart * 319.0)), "{} columns", apart * 319.0);
    }

    #[test]
    fn without_a_transform_sizes_must_be_equal() {
        let clip = Clip::new(vec![255; 2 * 4 * 6 * 3], [2, 4, 6, 3], 8.0).unwrap();
        assert_eq!(Transform::None.apply(&clip, [4, 6]).unwrap(), vec![1.0; 2 * 3 * 4 * 6]);
        let said = Transform::None.apply(&clip, [4, 4]).unwrap_err().to_string();
        assert!(said.contains("4 × 6") && said.contains("4 × 4"), "{said}");
    }

    #[test]
    fn levels_clamp_and_round() {
        assert_eq!([-2.0, -1.0, 0.0, 1.0, 2.0, f32::NAN].map(level), [0, 0, 128, 255, 255, 0]);
        assert!(to_clip(&[0.0; 11], [1, 2, 2], 8.0).is_err());
        assert!(to_clip(&[], [0, 2, 2], 8.0).is_err());
        assert!(to_clip(&[], [1, 0, 2], 8.0).is_err());
    }

    /// Computes every output separately from the formula.
    fn sampled_plainly(clip: &Clip, [rows, columns]: &[Vec<Tap>; 2]) -> Vec<f32> {
        let mut out = Vec::new();
        for f in 0..clip.num_frames() {
            for channel in 0..3 {
                for (row, column) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))) {
                    let level = |y: usize, x: usize| f32::from(clip.frame(f)[(y * clip.width() + x) * 3 + channel]) / 255.0;
                    let mix = |y: usize| level(y, column.first) * (1.0 - column.weight) + level(y, column.second) * column.weight;
                    out.push(mix(row.first) * (1.0 - row.weight) + mix(row.second) * row.weight);
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn sharing_rows_changes_no_bit(
            h in 1_usize..24, w in 1_usize..24, to_h in 1_usize..40, to_w in 1_usize..40, seed: u64,
        ) {
            let mut state = seed | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            };
            let clip = Clip::new((0..2 * h * w * 3).map(|_| random()).collect(), [2, h, w, 3], 8.0).unwrap();
            for taps in [resize_crop_taps([h, w], [to_h, to_w]), crop_resize_taps([h, w], [to_h, to_w])] {
                let plain = sampled_plainly(&clip, &taps);
                prop_assert_eq!(&sample(&clip, &taps, |p| p), &plain);
                let plain: Vec<f32> = plain.iter().map(|p| (p - 0.5) / 0.5).collect();
                prop_assert_eq!(sample(&clip, &taps, signed), plain);
            }
        }

        #[test]
        fn u8_to_float_and_back_is_exact(pixels in proptest::collection::vec(any::<u8>(), 2 * 3 * 4 * 3)) {
            let clip = Clip::new(pixels, [2, 3, 4, 3], 8.0).unwrap();
            let mut floats = to_float(&clip);
            normalize(&mut floats);
            prop_assert!(floats.iter().all(|v| (-1.0..=1.0).contains(v)));
            prop_assert_eq!(to_clip(&floats, [2, 3, 4], 8.0).unwrap(), clip);
        }

        #[test]
        fn transforms_give_the_size_asked_for(
            h in 1_usize..60, w in 1_usize..60, to_h in 1_usize..40, to_w in 1_usize..40, value: u8,
        ) {
            let clip = Clip::new(vec![value; h * w * 3], [1, h, w, 3], 8.0).unwrap();
            for out in [short_side_resize_center_crop(&clip, [to_h, to_w]), center_crop_resize(&clip, [to_h, to_w])] {
                prop_assert_eq!(out.len(), 3 * to_h * to_w);
                prop_assert!(out.iter().all(|v| (v - f32::from(value) / 255.0).abs() < 1e-6));
            }
        }
    }
}
