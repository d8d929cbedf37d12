//! The metadata of a video.

use std::fmt;
use std::path::PathBuf;

/// The metadata of an opened video.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// The file or the frame folder; for a video inside an archive, the path of the archive followed by the name inside it.
    pub path: PathBuf,
    /// The container format: `mp4`, `matroska`, `frames`, or the name that ffprobe gives.
    pub container: String,
    /// The codec: `h264`, `hevc`, `vp9`, `png`, `jpeg`, or the name that ffprobe gives.
    pub codec: String,
    /// Width in pixels, after rotation.
    pub width: usize,
    /// Height in pixels, after rotation.
    pub height: usize,
    /// Clockwise rotation of the stored frames for display, in degrees: 0, 90, 180 or 270. Decoded frames have it applied.
    pub rotation: u32,
    /// Frames per second; the average if the frame rate varies; 8 for frame folders, which store none.
    pub fps: f64,
    /// Number of frames.
    pub num_frames: usize,
    /// Duration in seconds.
    pub duration: f64,
    /// Whether the durations of the frames differ. Frame indices ignore them.
    pub variable_frame_rate: bool,
    /// What decodes the video: `built in`, `libavcodec` or `ffmpeg`.
    pub decoder: &'static str,
}

impl fmt::Display for VideoInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  format      {} / {}", self.container, self.codec)?;
        write!(f, "  frame size  {} × {}", self.width, self.height)?;
        if self.rotation != 0 {
            write!(f, " (turned by {}° for display)", self.rotation)?;
        }
        writeln!(f)?;
        let average = if self.variable_frame_rate { " on average (variable frame rate)" } else { "" };
        writeln!(f, "  frames      {} at {:.3} per second{average}", self.num_frames, self.fps)?;
        writeln!(f, "  duration    {:.3} s", self.duration)?;
        write!(f, "  decoded by  {}", self.decoder)
    }
}

/// Whether ascending presentation times (any unit; `tolerance` in the same unit) are unevenly spaced.
pub(crate) fn is_variable(times: &[f64], tolerance: f64) -> bool {
    let steps = times.windows(2).map(|w| w[1] - w[0]);
    let (low, high) = steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
    high - low > tolerance
}

#[cfg(test)]
mod tests {
    use super::is_variable;

    #[test]
    fn uneven_times_are_variable_within_rounding() {
        // Milliseconds of 30 frames per second, as Matroska rounds them.
        assert!(!is_variable(&[0.0, 33.0, 67.0, 100.0, 133.0], 2.0));
        assert!(is_variable(&[0.0, 33.0, 100.0, 133.0], 2.0));
        assert!(!is_variable(&[0.0], 0.0));
    }
}
