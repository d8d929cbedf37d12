//! Prepares stored pixels for a network: resizes them and maps their range.

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Clips;
use crate::resize::Resize;
use crate::{Error, Result};

/// How pixels are prepared for a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// How frames are resized to the network's input size.
    pub resize: Resize,
    /// How values are mapped.
    pub values: ValueMap,
}

/// The mapping of values from 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMap {
    /// `2x/255 − 1`, from −1 to 1.
    MinusOneToOne,
    /// `(x − 128)/128`, from −1 to just below 1.
    Around128,
    /// `x/255`, from 0 to 1.
    ZeroToOne,
    /// `x`, from 0 to 255.
    Bytes,
    /// `x/255` minus CLIP's means, divided by its standard deviations.
    Clip,
}

impl ValueMap {
    /// `x · factor + summand` for each channel.
    fn lines(self) -> [(f64, f64); 3] {
        match self {
            Self::MinusOneToOne => [(2.0 / 255.0, -1.0); 3],
            Self::Around128 => [(1.0 / 128.0, -1.0); 3],
            Self::ZeroToOne => [(1.0 / 255.0, 0.0); 3],
            Self::Bytes => [(1.0, 0.0); 3],
            Self::Clip => {
                let means_and_deviations = [(0.48145466, 0.26862954), (0.4578275, 0.26130258), (0.40821073, 0.27577711)];
                means_and_deviations.map(|(mean, deviation)| (1.0 / 255.0 / deviation, -mean / deviation))
            }
        }
    }

    fn apply(self, values: &mut [f32]) {
        let lines = self.lines().map(|(factor, summand)| (factor as f32, summand as f32));
        values.par_chunks_mut(3 * 16 * 1024).for_each(|values| {
            for pixel in values.as_chunks_mut::<3>().0 {
                for (value, (factor, summand)) in pixel.iter_mut().zip(lines) {
                    *value = *value * factor + summand;
                }
            }
        });
    }
}

impl Preparation {
    /// Resizes and maps clips. Frames of any aspect ratio become squares.
    ///
    /// # Shapes
    ///
    /// `clips` `[n, f, h, w, 3]`; gives `[n, f, side, side, 3]`.
    pub(super) fn apply(self, clips: Clips<'_>, side: usize) -> Result<Tensor> {
        let [n, f, h, w] = clips.shape;
        let mut values = self.resize.frames(clips.pixels, [h, w], [side; 2]);
        self.values.apply(&mut values);
        Ok(Tensor::from_vec(values, (n, f, side, side, 3), &Device::Cpu)?)
    }
}

impl Preparation {
    /// As [`Preparation::apply`], but the shorter side becomes `side`, and the longer one is cropped at the centre.
    pub(super) fn apply_cropped(self, clips: Clips<'_>, side: usize) -> Result<Tensor> {
        let [n, f, h, w] = clips.shape;
        let scaled = |this: usize, other: usize| if this <= other { side } else { side * this / other };
        let [height, width] = [scaled(h, w), scaled(w, h)];
        let values = self.resize.frames(clips.pixels, [h, w], [height, width]);
        // Halves are rounded to even, as in Python.
        let middle = |len: usize| (len - side) / 2 + usize::from((len - side) % 4 == 3);
        let [top, left] = [middle(height), middle(width)];
        let mut cropped = Vec::with_capacity(n * f * side * side * 3);
        for frame in values.chunks_exact(height * width * 3) {
            for row in frame.chunks_exact(width * 3).skip(top).take(side) {
                cropped.extend_from_slice(&row[left * 3..(left + side) * 3]);
            }
        }
        self.values.apply(&mut cropped);
        Ok(Tensor::from_vec(cropped, (n, f, side, side, 3), &Device::Cpu)?)
    }
}

impl Clips<'_> {
    /// The clips `start` to `start + len`.
    pub(super) fn some(self, start: usize, len: usize) -> Self {
        let [_, f, h, w] = self.shape;
        let clip = f * h * w * 3;
        Self { pixels: &self.pixels[start * clip..(start + len) * clip], shape: [len, f, h, w] }
    }

    /// Checks that there is at least one clip, that `pixels` matches the shape, and that `detector` accepts the number of frames.
    pub(super) fn check(self, detector: &str, frames: std::ops::RangeInclusive<usize>) -> Result<()> {
        let [n, f, h, w] = self.shape;
        let expected = self.shape.iter().try_fold(3usize, |product, &side| product.checked_mul(side));
        if expected != Some(self.pixels.len()) || self.pixels.is_empty() {
            let what = format!("expected {n} × {f} × {h} × {w} × 3 of them and at least one, got {}", self.pixels.len());
            return Err(Error::refused("pixels", what));
        }
        if !frames.contains(&f) {
            let (least, most) = (frames.start(), frames.end());
            let wanted = match (least, most) {
                (1, 1) => "takes single frames".to_string(),
                (least, most) if least == most => format!("takes clips of {least} frames"),
                (least, _) => format!("takes clips of at least {least} frames"),
            };
            return Err(Error::refused(detector, format!("{wanted}, got clips of {f}; choose another number of frames")));
        }
        Ok(())
    }
}
