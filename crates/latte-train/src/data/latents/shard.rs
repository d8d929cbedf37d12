//! One file of a latent cache.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use latte_model::weights::{FileKind, RawTensor, WeightFiles, write_weights};
use serde::{Deserialize, Serialize};

use super::manifest::{CacheHeader, VideoRecord};
use crate::error::{Error, Result};

/// The metadata key of a file's header.
const KEY: &str = "latte-latents";

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardHeader {
    pub(super) header: CacheHeader,
    /// The number of the first of its videos in the data set.
    pub(super) first: usize,
    /// Whether this is the last file of its group.
    pub(super) last: bool,
    pub(super) videos: Vec<VideoRecord>,
}

/// The stored moments of one video.
#[derive(Debug, Default)]
pub(super) struct StoredVideo {
    pub(super) frames: usize,
    /// `[frames, m, h, w]`, little-endian; of the video, and with flips also of the mirrored one.
    pub(super) bytes: Vec<Vec<u8>>,
}

/// The prefix of all file names.
pub(super) const FILES: &str = "moments-";

/// The name of part `part` of group `group`.
pub(super) fn file_name(group: usize, part: usize) -> String {
    format!("{FILES}{group:05}-{part}.safetensors")
}

/// The name of the tensor of video number `video`, mirrored or not.
pub(super) fn tensor_name(video: usize, flip: bool) -> String {
    format!("{video:06}{}", if flip { ".flipped" } else { "" })
}

impl ShardHeader {
    /// Reads the header of the file at `path`; `None` if the file is damaged.
    ///
    /// # Errors
    ///
    /// If it is another program's file, or of another version.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Ok(files) = WeightFiles::open(path) else { return Ok(None) };
        let what = || format!("is not a file of a latent cache (it has no `{KEY}`), but has the name of one; move it away");
        let text = files.metadata().get(KEY).ok_or_else(|| Error::data(path, what()))?;
        // The version decides how the rest is parsed.
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| Error::data(path, e.to_string()))?;
        super::manifest::read_header(&value["header"].to_string()).map_err(|what| Error::data(path, what))?;
        serde_json::from_value(value).map(Some).map_err(|e| Error::data(path, format!("its header cannot be parsed: {e}")))
    }

    /// Writes the file: `stored` are the moments of its readable videos, in order.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(super) fn write(&self, path: &Path, stored: &[StoredVideo]) -> Result<()> {
        let [channels, h, w] = self.header.frame_shape()?;
        let readable = self.videos.iter().enumerate().filter(|(_, video)| video.video.is_some()).map(|(at, _)| self.first + at);
        let mut tensors = BTreeMap::new();
        for (video, stored) in readable.zip(stored) {
            for (flip, bytes) in [false, true].into_iter().zip(&stored.bytes) {
                tensors.insert(tensor_name(video, flip), (vec![stored.frames, channels, h, w], bytes));
            }
        }
        let text = serde_json::to_string(self).map_err(|e| Error::data(path, e.to_string()))?;
        let kind = FileKind::Safetensors { metadata: BTreeMap::from([(KEY.to_string(), text)]) };
        let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        let read = |name: &str| {
            let (shape, bytes) = &tensors[name];
            Ok(RawTensor { dtype: self.header.dtype.stored(), shape: shape.clone(), bytes: Cow::Borrowed(bytes.as_slice()) })
        };
        Ok(write_weights(path, &kind, &names, &read)?)
    }
}
