//! CLIPSIM: how well clips match their texts.

use super::matrix::{Features, finite};
use crate::{Error, Result};

/// CLIPSIM: the cosine between each frame's embedding and that of the clip's text, averaged over the frames of a clip, then over
/// the clips. `frames` holds the frames of all clips in order; `frames_of` has the number of frames of each clip; `texts` has one
/// row per clip. Returns the mean cosine of all clips (some programs multiply it by 100) and that of each clip.
///
/// # Errors
///
/// If the numbers of clips and frames do not fit, or an embedding is zero.
pub fn clipsim(frames: &Features, frames_of: &[usize], texts: &Features) -> Result<(f64, Vec<f64>)> {
    frames.same_width(texts)?;
    if frames_of.len() != texts.len() || frames_of.iter().sum::<usize>() != frames.len() || frames_of.contains(&0) {
        let what = format!(
            "{} frames of {} clips and {} texts; expected a text for each clip, and at least one frame",
            frames.len(),
            frames_of.len(),
            texts.len()
        );
        return Err(Error::refused("clips", what));
    }
    let mut clips = Vec::with_capacity(frames_of.len());
    let mut next = 0;
    for (clip, &count) in frames_of.iter().enumerate() {
        let mut sum = 0.0;
        for frame in next..next + count {
            sum += cosine(frames.row(frame), texts.row(clip))
                .ok_or_else(|| Error::refused("clips", format!("clip {clip}: an embedding is zero, so it has no direction")))?;
        }
        clips.push(sum / count as f64);
        next += count;
    }
    Ok((finite("the mean of the cosines", clips.iter().sum::<f64>() / clips.len() as f64)?, clips))
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let product = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let norms = (product(a, a) * product(b, b)).sqrt();
    (norms > 0.0).then(|| product(a, b) / norms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 2, "x").unwrap()
    }

    #[test]
    fn cosines_are_averaged_over_frames_and_then_over_clips() {
        let texts = rows(&[1.0, 0.0, 0.0, 2.0]);
        // One frame of the first clip, three of the second.
        let frames = rows(&[5.0, 0.0, 0.0, 3.0, 7.0, 0.0, -3.0, 4.0]);
        let (mean, clips) = clipsim(&frames, &[1, 3], &texts).unwrap();
        assert!((clips[0] - 1.0).abs() < 1e-15 && (clips[1] - (1.0 + 0.0 + 0.8) / 3.0).abs() < 1e-15, "{clips:?}");
        assert!((mean - 0.8).abs() < 1e-15, "{mean}");
        for wrong in [&[4][..], &[2, 3], &[0, 4]] {
            assert!(clipsim(&frames, wrong, &texts).is_err());
        }
        assert!(clipsim(&rows(&[0.0, 0.0, 1.0, 0.0]), &[1, 1], &texts).is_err());
    }
}
