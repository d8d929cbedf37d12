//! Temporal flicker: the difference between consecutive frames.

use crate::detector::Clips;
use crate::{Error, Result};

/// `(255 − mean |frameᵢ − frameᵢ₊₁|) / 255` of each clip; 1 for a static clip. It is meant for clips of static scenes: otherwise it
/// mixes flicker and motion.
///
/// # Errors
///
/// If clips have fewer than two frames.
pub fn temporal_flicker(clips: Clips<'_>) -> Result<Vec<f64>> {
    let [_, frames, height, width] = clips.shape;
    if frames < 2 {
        return Err(Error::refused("clips", "one frame does not flicker; at least two frames are needed"));
    }
    let len = height * width * 3;
    let steadiness = |clip: &[u8]| {
        let mut sum = 0_u64;
        for (before, after) in clip.chunks(len).zip(clip.chunks(len).skip(1)) {
            sum += before.iter().zip(after).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
        }
        (255.0 - sum as f64 / ((frames - 1) * len) as f64) / 255.0
    };
    Ok(clips.pixels.chunks(frames * len).map(steadiness).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stillness_is_one_and_black_and_white_is_zero() {
        let mut pixels = vec![7; 12];
        pixels.extend([0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255].map(|v: u8| v));
        let found = temporal_flicker(Clips { pixels: &pixels, shape: [2, 4, 1, 1] }).unwrap();
        assert_eq!(found, [1.0, 0.0]);
        let found = temporal_flicker(Clips { pixels: &[10, 10, 10, 10, 13, 10, 10, 10, 10], shape: [1, 3, 1, 1] }).unwrap();
        assert!((found[0] - (255.0 - 1.0) / 255.0).abs() < 1e-15);
        assert!(temporal_flicker(Clips { pixels: &[0; 3], shape: [1, 1, 1, 1] }).is_err());
    }
}
