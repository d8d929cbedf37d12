//! Detects whether the videos of a run have changed.

use serde::{Deserialize, Serialize};

/// Detects whether the data has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFingerprint {
    /// The number of videos.
    pub num_videos: usize,
    /// Changes when a video is added, removed or renamed; 16 hexadecimal digits.
    pub fingerprint: String,
}
