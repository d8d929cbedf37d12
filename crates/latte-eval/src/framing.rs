//! Prepares frames before the detector's own preparation: brings them to one size and rounds them to bytes.

use latte_video::{Clip, Transform, transform};
use serde::{Deserialize, Serialize};

use crate::jpeg::through_jpeg;
use crate::resize::Resize;

/// A common size of all frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framing {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// How frames are brought to it.
    pub transform: FrameTransform,
}

/// How frames are brought to a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameTransform {
    /// As for training: [`Transform::ResizeCrop`].
    ResizeCrop,
    /// As for training: [`Transform::CropResize`].
    CropResize,
    /// Frames must have the size already.
    None,
    /// Crops the centre (with the aspect ratio of the size), resizes it with Pillow's Lanczos filter and compresses it as a JPEG of
    /// this quality: Latte's tools.
    CropLanczosJpeg(u8),
    /// Resizes the shorter side with Pillow's Lanczos filter, crops the centre and compresses it as a JPEG of this quality:
    /// StyleGAN-V's tools.
    LanczosCropJpeg(u8),
    /// [`Resize::ShortSideBilinear`]: VideoGPT.
    ShortSide,
}

impl FrameTransform {
    /// Whether frames are compressed as JPEG.
    pub fn is_jpeg(self) -> bool {
        matches!(self, Self::CropLanczosJpeg(_) | Self::LanczosCropJpeg(_))
    }
}

impl From<Transform> for FrameTransform {
    fn from(transform: Transform) -> Self {
        match transform {
            Transform::ResizeCrop => Self::ResizeCrop,
            Transform::CropResize => Self::CropResize,
            Transform::None => Self::None,
        }
    }
}

/// How values in [0, 1] are rounded to bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To nearest.
    #[default]
    Nearest,
    /// Down, as VideoGPT does with samples.
    Down,
    /// Down, after ½ was subtracted and added again in f32, as VideoGPT does with real videos: in frames that are not resized, the
    /// levels 1 to 63 decrease by one.
    DownFromHalf,
}

impl Rounding {
    fn byte(self, value: f32) -> u8 {
        match self {
            Self::Nearest => (value * 255.0 + 0.5) as u8,
            Self::Down => (value * 255.0) as u8,
            Self::DownFromHalf => ((value - 0.5 + 0.5) * 255.0) as u8,
        }
    }

    /// Applies the rounding to frames that are bytes already.
    ///
    /// # Errors
    ///
    /// None in practice: the shape is that of `clip`.
    fn of_bytes(self, clip: Clip) -> latte_video::Result<Clip> {
        if self == Self::Nearest {
            return Ok(clip);
        }
        let levels: [u8; 256] = std::array::from_fn(|level| self.byte(level as f32 / 255.0));
        let (shape, fps) = (clip.shape(), clip.fps());
        Clip::new(clip.into_pixels().into_iter().map(|level| levels[level as usize]).collect(), shape, fps)
    }
}

/// The frames of `clip` after framing and rounding.
///
/// # Errors
///
/// If frames must have the size already but do not.
pub(crate) fn framed(clip: Clip, framing: Option<Framing>, rounding: Rounding) -> latte_video::Result<Clip> {
    let Some(Framing { size, transform }) = framing else { return rounding.of_bytes(clip) };
    let from = [clip.height(), clip.width()];
    let shape = [clip.num_frames(), size[0], size[1], 3];
    let trained = |transform: Transform| {
        let pixels = transform.apply(&clip, size)?;
        rounding.of_bytes(transform::to_clip(&pixels, [clip.num_frames(), size[0], size[1]], clip.fps())?)
    };
    let in_jpeg = |pixels: &[u8], quality: u8| {
        let pixels = through_jpeg(pixels, size, quality).map_err(|e| latte_video::Error::Shape(e.to_string()))?;
        rounding.of_bytes(Clip::new(pixels, shape, clip.fps())?)
    };
    match transform {
        FrameTransform::ResizeCrop => trained(Transform::ResizeCrop),
        FrameTransform::CropResize => trained(Transform::CropResize),
        FrameTransform::None => trained(Transform::None),
        FrameTransform::CropLanczosJpeg(quality) => {
            // The largest centred area with the aspect ratio of the size.
            let scale = (from[0] as f64 / size[0] as f64).min(from[1] as f64 / size[1] as f64);
            let part = [0, 1].map(|axis| ((size[axis] as f64 * scale).round() as usize).clamp(1, from[axis]));
            in_jpeg(&lanczos(&middle(clip.pixels(), from, part), part, size), quality)
        }
        FrameTransform::LanczosCropJpeg(quality) => {
            let scale = (size[0] as f64 / from[0] as f64).max(size[1] as f64 / from[1] as f64);
            // Rounded down, as in torchvision; the shorter side gets exactly its size.
            let whole = [0, 1].map(|axis| ((from[axis] as f64 * scale) as usize).max(size[axis]));
            in_jpeg(&middle(&lanczos(clip.pixels(), from, whole), whole, size), quality)
        }
        FrameTransform::ShortSide => {
            let values = Resize::ShortSideBilinear.frames(clip.pixels(), from, size);
            Clip::new(values.into_iter().map(|value| rounding.byte(value / 255.0)).collect(), shape, clip.fps())
        }
    }
}

fn lanczos(frames: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    Resize::PillowLanczosBytes.frames(frames, from, to).into_iter().map(|value| value as u8).collect()
}

/// The centre of frames; halves of a pixel are rounded to even, as in Python.
fn middle(frames: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let [top, left] = [0, 1].map(|axis| {
        let rest = from[axis] - to[axis];
        rest / 2 + usize::from(rest % 4 == 3)
    });
    let rows = frames.chunks_exact(from[0] * from[1] * 3).flat_map(|frame| frame.chunks_exact(from[1] * 3).skip(top).take(to[0]));
    rows.flat_map(|row| &row[left * 3..(left + to[1]) * 3]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(height: usize, width: usize) -> Clip {
        let pixels = (0..2 * height * width * 3).map(|i| (i * 37 % 256) as u8).collect();
        Clip::new(pixels, [2, height, width, 3], 8.0).unwrap()
    }

    fn with(transform: FrameTransform, size: usize) -> Framing {
        Framing { size: [size; 2], transform }
    }

    #[test]
    fn the_rounding_of_videogpt_darkens_dark_levels_by_one() {
        let levels = Clip::new((0..=255).flat_map(|level| [level; 3]).collect(), [1, 16, 16, 3], 8.0).unwrap();
        let found = |framing, rounding| framed(levels.clone(), framing, rounding).unwrap().into_pixels();
        let same = Some(with(FrameTransform::ShortSide, 16));
        for rounding in [Rounding::Nearest, Rounding::Down] {
            assert_eq!(found(None, rounding), levels.pixels());
            assert_eq!(found(same, rounding), levels.pixels());
        }
        // Computed with NumPy and PyTorch: 63 levels.
        let darker: Vec<u8> =
            (0..=255u8).flat_map(|level| [if (1..64).contains(&level) { level - 1 } else { level }; 3]).collect();
        assert_eq!(found(None, Rounding::DownFromHalf), darker);
        assert_eq!(found(same, Rounding::DownFromHalf), darker);
        // Between 10 and 13, and rounded down: 10.75, 12.25.
        let wide = Clip::new([10, 13, 10, 13].iter().flat_map(|&v| [v; 3]).collect(), [1, 2, 2, 3], 8.0).unwrap();
        let row =
            |rounding| framed(wide.clone(), Some(with(FrameTransform::ShortSide, 4)), rounding).unwrap().pixels()[..12].to_vec();
        assert_eq!(row(Rounding::Down).iter().step_by(3).copied().collect::<Vec<_>>(), [10, 10, 12, 13]);
        assert_eq!(row(Rounding::Nearest).iter().step_by(3).copied().collect::<Vec<_>>(), [10, 11, 12, 13]);
    }

    #[test]
    fn cropping_is_before_or_after_resizing_and_jpeg_is_last() {
        let clip = clip(6, 9);
        let pixels = |transform, size| framed(clip.clone(), Some(with(transform, size)), Rounding::Nearest).unwrap();
        let [first, last] = [FrameTransform::CropLanczosJpeg, FrameTransform::LanczosCropJpeg];
        // At the size of the shorter side, both only crop: 3 columns are removed, 2 of them (1½, rounded to even) on the left.
        let cut: Vec<u8> = clip.pixels().chunks_exact(27).flat_map(|row| &row[2 * 3..8 * 3]).copied().collect();
        let expected = through_jpeg(&cut, [6, 6], 75).unwrap();
        assert_ne!(expected, cut);
        for transform in [first(75), last(75)] {
            let found = pixels(transform, 6);
            assert_eq!((found.shape(), found.pixels()), ([2, 6, 6, 3], expected.as_slice()), "{transform:?}");
        }
        // At another size, the order makes a difference; the quality always does.
        let of = |transform| pixels(transform, 4).into_pixels();
        assert_ne!(of(first(75)), of(last(75)));
        assert_ne!(of(first(75)), of(first(95)));
        assert!(framed(clip.clone(), Some(with(FrameTransform::None, 6)), Rounding::Nearest).is_err());
        assert!(framed(clip, Some(with(first(0), 6)), Rounding::Nearest).is_err());
    }
}
