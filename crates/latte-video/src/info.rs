//! What a video file says about itself.

use std::fmt;
use std::path::PathBuf;

/// What is known about an opened video.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// The file or the frame folder; of a video inside an archive, the archive with the name inside it added.
    pub path: PathBuf,
    /// The file format: `mp4`, `matroska`, `frames`, or what ffprobe calls it.
    pub container: String,
    /// The codec: `h264`, `hevc`, `vp9`, `png`, `jpeg`, or what ffprobe calls it.
    pub codec: String,
    /// Pixels of a row, after rotation.
    pub width: usize,
    /// Rows, after rotation.
    pub height: usize,
    /// By how many degrees clockwise the stored frames are turned for display: 0, 90, 180 or 270. It has been applied.
    pub rotation: u32,
    /// Frames per second; the average if the frame rate varies. Frame folders have no rate: 8 is assumed.
    pub fps: f64,
    /// How many frames there are, in order of presentation.
    pub num_frames: usize,
    /// Seconds.
    pub duration: f64,
    /// Whether frames are shown for unequal times. Frames are counted in order of presentation all the same.
    pub variable_frame_rate: bool,
    /// What decodes it: `built in`, `libavcodec`, `ffmpeg`.
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
