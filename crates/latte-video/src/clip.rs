//! Pixels of one excerpt of a video.

use crate::{Error, Result};

/// Pixels of one excerpt of a video: u8 RGB, row-major `[f, h, w, 3]`, shown at `fps` frames per second.
#[derive(Clone, PartialEq)]
pub struct Clip {
    pixels: Vec<u8>,
    shape: [usize; 4],
    fps: f64,
}

impl Clip {
    /// Wraps `pixels` of shape `[f, h, w, 3]`.
    ///
    /// # Errors
    ///
    /// If an axis is zero, the last axis is not 3, `pixels` does not have as many values as the shape, or `fps` is not a positive
    /// number.
    pub fn new(pixels: Vec<u8>, shape: [usize; 4], fps: f64) -> Result<Self> {
        let expected = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if shape[3] != 3 || shape.contains(&0) {
            return Err(Error::Shape(format!("a clip has shape [frames, height, width, 3] without zeros, got {shape:?}")));
        }
        if expected != Some(pixels.len()) {
            return Err(Error::Shape(format!("a clip of shape {shape:?} does not have {} values", pixels.len())));
        }
        if !(fps.is_finite() && fps > 0.0) {
            return Err(Error::Shape(format!("frames per second must be a positive number, got {fps}")));
        }
        Ok(Self { pixels, shape, fps })
    }

    /// All pixels, row-major `[f, h, w, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All pixels, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// `[f, h, w, 3]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Number of frames, at least one.
    pub fn num_frames(&self) -> usize {
        self.shape[0]
    }

    /// Number of rows of a frame.
    pub fn height(&self) -> usize {
        self.shape[1]
    }

    /// Number of columns of a frame.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// Frames per second.
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// The clip mirrored left to right.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        let width = self.shape[2];
        for row in self.pixels.chunks_exact_mut(width * 3) {
            let (left, right) = row.split_at_mut(width / 2 * 3);
            let right = &mut right[width % 2 * 3..];
            for (l, r) in left.chunks_exact_mut(3).zip(right.chunks_exact_mut(3).rev()) {
                l.swap_with_slice(r);
            }
        }
        self
    }

    /// The pixels of frame `index`, row-major `[h, w, 3]`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Clip::num_frames`].
    pub fn frame(&self, index: usize) -> &[u8] {
        let len = self.shape[1] * self.shape[2] * 3;
        &self.pixels[index * len..(index + 1) * len]
    }

    /// The clip with each pixel repeated as a square of `factor` × `factor`, to make small clips visible.
    ///
    /// # Errors
    ///
    /// If `factor` is zero.
    pub fn enlarged(&self, factor: usize) -> Result<Self> {
        let [frames, height, width, _] = self.shape;
        let mut pixels = Vec::with_capacity(self.pixels.len() * factor * factor);
        for row in self.pixels.chunks(width * 3) {
            let wide: Vec<u8> = row.chunks(3).flat_map(|pixel| pixel.repeat(factor)).collect();
            pixels.extend(wide.repeat(factor));
        }
        Self::new(pixels, [frames, height * factor, width * factor, 3], self.fps)
    }
}

// The pixels are left out: they would fill the screen.
impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clip").field("shape", &self.shape).field("fps", &self.fps).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_clips_are_refused() {
        assert!(Clip::new(vec![0; 12], [1, 2, 2, 3], 8.0).is_ok());
        assert!(Clip::new(vec![0; 11], [1, 2, 2, 3], 8.0).is_err());
        assert!(Clip::new(vec![0; 16], [1, 2, 2, 4], 8.0).is_err());
        assert!(Clip::new(vec![], [0, 2, 2, 3], 8.0).is_err());
        assert!(Clip::new(vec![0; 12], [1, 2, 2, 3], 0.0).is_err());
        assert!(Clip::new(vec![0; 12], [1, 2, 2, 3], f64::NAN).is_err());
        assert!(Clip::new(vec![0; 12], [usize::MAX, usize::MAX, 2, 3], 8.0).is_err());
    }

    #[test]
    fn mirrored_swaps_columns_and_keeps_channels() {
        let row = |pixels: &[u8]| pixels.iter().flat_map(|&p| [p, p + 100, p + 200]).collect::<Vec<u8>>();
        for (before, after) in [([1, 2, 3, 4, 5, 6], [3, 2, 1, 6, 5, 4]), ([7, 8, 9, 1, 2, 3], [9, 8, 7, 3, 2, 1])] {
            let clip = Clip::new(row(&before), [1, 2, 3, 3], 8.0).unwrap();
            assert_eq!(clip.mirrored().pixels(), row(&after));
        }
        let even = Clip::new(row(&[1, 2, 3, 4]), [2, 1, 2, 3], 8.0).unwrap();
        assert_eq!(even.mirrored().pixels(), row(&[2, 1, 4, 3]));
    }

    #[test]
    fn enlarging_repeats_pixels() {
        let clip = Clip::new(vec![1, 2, 3, 4, 5, 6], [1, 1, 2, 3], 8.0).unwrap();
        let large = clip.enlarged(2).unwrap();
        assert_eq!(large.shape(), [1, 2, 4, 3]);
        let row = [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6];
        assert_eq!(large.pixels(), [row, row].concat());
        assert!(clip.enlarged(0).is_err());
    }

    #[test]
    fn frame_is_the_right_slice() {
        let clip = Clip::new((0..24).collect(), [2, 2, 2, 3], 8.0).unwrap();
        assert_eq!(clip.frame(1), &(12..24).collect::<Vec<u8>>()[..]);
    }
}
