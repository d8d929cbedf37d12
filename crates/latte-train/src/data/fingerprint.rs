//! Tells whether the videos of a run are still the same.

use serde::{Deserialize, Serialize};

/// Tells whether the data is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFingerprint {
    /// How many videos.
    pub num_videos: usize,
    /// Changes when a video is added, removed or renamed; 16 hexadecimal digits.
    pub fingerprint: String,
}
