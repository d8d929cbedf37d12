//! Selects the frames of a video that make a clip.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the frames of a window are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameRule {
    /// The official rule of the FaceForensics and UCF101 readers: `num_frames` evenly spaced frames from the first to the last of
    /// `num_frames · frame_interval`, rounded down, so that two step sizes occur (16 frames at interval 3: 0, 3, …, 21, 25, 28, …,
    /// 43, 47). A video shorter than the window is sampled more densely.
    #[default]
    Linspace,
    /// The official rule of the SkyTimelapse and Taichi-HD readers: every `frame_interval`-th frame, with the start frames of
    /// [`FrameRule::Linspace`]. A video that ends before the last of these frames is an error.
    OfficialStride,
    /// Every `frame_interval`-th frame from any possible start. A video that ends before the last of these frames is an error.
    ExactStride,
}

/// A clip of `num_frames` frames, `frame_interval` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipWindow {
    /// Number of frames of the clip, at least 1.
    pub num_frames: usize,
    /// Distance of the clip's frames in the video, in frames; at least 1.
    pub frame_interval: usize,
    /// How the frames are spaced.
    pub rule: FrameRule,
}

impl ClipWindow {
    /// Number of frames of the video that the window covers: `num_frames · frame_interval` by the official rules, and from the
    /// first to the last frame of the clip with an exact stride.
    pub fn span(&self) -> usize {
        match self.rule {
            FrameRule::Linspace | FrameRule::OfficialStride => self.num_frames.saturating_mul(self.frame_interval),
            FrameRule::ExactStride => self.strided(),
        }
    }

    /// Minimum number of frames of a video.
    pub fn least_frames(&self) -> usize {
        match self.rule {
            FrameRule::Linspace => self.num_frames,
            FrameRule::OfficialStride | FrameRule::ExactStride => self.strided(),
        }
    }

    /// Number of frames from the first to the last of frames that are `frame_interval` apart.
    fn strided(&self) -> usize {
        self.num_frames.saturating_sub(1).saturating_mul(self.frame_interval).saturating_add(1)
    }

    /// Number of possible start frames, 0 to `num_starts − 1`. Zero if the video is too short.
    ///
    /// The official rules use `max(1, total − span)` starts, which leaves out the last one.
    pub fn num_starts(&self, total_frames: usize) -> usize {
        if self.check(total_frames).is_err() {
            return 0;
        }
        match self.rule {
            FrameRule::Linspace | FrameRule::OfficialStride => total_frames.saturating_sub(self.span()).max(1),
            FrameRule::ExactStride => total_frames - self.span() + 1,
        }
    }

    /// The frames of the window that starts at frame `start`: `num_frames` ascending indices below `total_frames`.
    ///
    /// # Errors
    ///
    /// If the video has too few frames, or too few after `start`.
    pub fn indices(&self, total_frames: usize, start: usize) -> Result<Vec<usize>> {
        self.check(total_frames)?;
        let left = total_frames.saturating_sub(start);
        let needed = self.least_frames();
        if left < needed {
            return Err(Error::Window(format!(
                "a window of {} frames, {} apart, cannot begin at frame {start} of a video of {total_frames} frames: \
                 the last start is {}",
                self.num_frames,
                self.frame_interval,
                total_frames - needed,
            )));
        }
        Ok(match self.rule {
            FrameRule::Linspace => linspace(start, start.saturating_add(self.span()).min(total_frames) - 1, self.num_frames),
            FrameRule::OfficialStride | FrameRule::ExactStride => {
                (0..self.num_frames).map(|i| start + i * self.frame_interval).collect()
            }
        })
    }

    fn check(&self, total_frames: usize) -> Result<()> {
        if self.num_frames == 0 || self.frame_interval == 0 {
            return Err(Error::Window(format!(
                "a clip window needs at least 1 frame and an interval of at least 1, got {} and {}",
                self.num_frames, self.frame_interval
            )));
        }
        let needed = self.least_frames();
        let why = match self.rule {
            FrameRule::Linspace => String::new(),
            FrameRule::OfficialStride | FrameRule::ExactStride => {
                format!(" ({} frames, {} apart)", self.num_frames, self.frame_interval)
            }
        };
        if total_frames < needed {
            return Err(Error::Window(format!(
                "the video has {total_frames} frames, the window needs at least {needed}{why}: \
                 use longer videos, fewer frames or a smaller interval"
            )));
        }
        Ok(())
    }
}

// `numpy.linspace(first, last, n, dtype=int)`: the same operations in the same order, so that the indices are the same.
fn linspace(first: usize, last: usize, n: usize) -> Vec<usize> {
    if n == 1 {
        return vec![first];
    }
    let step = (last - first) as f64 / (n - 1) as f64;
    (0..n).map(|i| if i == n - 1 { last } else { (i as f64 * step + first as f64).floor() as usize }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFICIAL: ClipWindow = ClipWindow { num_frames: 16, frame_interval: 3, rule: FrameRule::Linspace };

    #[test]
    fn official_rule_gives_the_published_frames() {
        let expected = [0, 3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37, 40, 43, 47];
        assert_eq!(OFFICIAL.indices(48, 0).unwrap(), expected);
        assert_eq!(OFFICIAL.indices(100, 10).unwrap(), expected.map(|i| i + 10));
    }

    #[test]
    fn official_rule_never_draws_the_last_start() {
        assert_eq!(OFFICIAL.num_starts(48), 1);
        assert_eq!(OFFICIAL.num_starts(50), 2);
        assert_eq!(OFFICIAL.num_starts(16), 1);
        assert_eq!(OFFICIAL.num_starts(15), 0);
    }

    #[test]
    fn exact_stride_uses_every_start() {
        let window = ClipWindow { rule: FrameRule::ExactStride, ..OFFICIAL };
        assert_eq!(window.span(), 46);
        assert_eq!(window.num_starts(46), 1);
        assert_eq!(window.num_starts(48), 3);
        assert_eq!(window.indices(48, 2).unwrap(), (0..16).map(|i| 2 + 3 * i).collect::<Vec<_>>());
        assert!(window.indices(48, 3).is_err());
    }

    #[test]
    fn official_stride_has_the_official_starts_and_a_constant_stride() {
        let window = ClipWindow { rule: FrameRule::OfficialStride, ..OFFICIAL };
        assert_eq!((window.span(), window.least_frames()), (48, 46));
        // An integer from 0 to max(0, n - 48 - 1).
        assert_eq!([45, 46, 48, 49, 50, 100].map(|n| window.num_starts(n)), [0, 1, 1, 1, 2, 52]);
        assert_eq!(window.indices(100, 51).unwrap(), (0..16).map(|i| 51 + 3 * i).collect::<Vec<_>>());
        let said = window.indices(45, 0).unwrap_err().to_string();
        assert!(said.contains("has 45 frames") && said.contains("at least 46"), "{said}");
    }

    #[test]
    fn too_few_frames_names_both_numbers() {
        let said = OFFICIAL.indices(9, 0).unwrap_err().to_string();
        assert!(said.contains("has 9 frames") && said.contains("at least 16"), "{said}");
        let exact = ClipWindow { rule: FrameRule::ExactStride, ..OFFICIAL };
        let said = exact.indices(20, 0).unwrap_err().to_string();
        assert!(said.contains("has 20 frames") && said.contains("at least 46"), "{said}");
    }

    proptest! {
        #[test]
        fn every_start_gives_ascending_frames_within_the_video(
            num_frames in 1_usize..40, frame_interval in 1_usize..8, total in 0_usize..400, rule in 0_usize..3, pick in 0_usize..400,
        ) {
            let rule = [FrameRule::Linspace, FrameRule::OfficialStride, FrameRule::ExactStride][rule];
            let window = ClipWindow { num_frames, frame_interval, rule };
            let starts = window.num_starts(total);
            if starts == 0 {
                prop_assert!(window.indices(total, 0).is_err());
            } else {
                let start = pick % starts;
                let indices = window.indices(total, start).unwrap();
                prop_assert_eq!(indices.len(), num_frames);
                prop_assert_eq!(indices[0], start);
                // Strictly ascending under every rule.
                prop_assert!(indices.windows(2).all(|w| w[0] < w[1]));
                prop_assert!(indices[num_frames - 1] < total);
                prop_assert!(indices[num_frames - 1] - start < window.span());
                if rule != FrameRule::Linspace {
                    prop_assert!(indices.windows(2).all(|w| w[1] - w[0] == frame_interval));
                }
            }
        }
    }
}
