//! Where the frames of a video are stored.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the frames of a video are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaLocation {
    /// A video file, or a folder of frames.
    Path(PathBuf),
    /// A video file inside an archive that does not compress it.
    Archived {
        /// The archive.
        archive: PathBuf,
        /// Where the video begins in it, in bytes.
        offset: u64,
        /// How long the video is, in bytes.
        length: u64,
        /// The video's name in the archive; its extension tells the format.
        name: String,
    },
}

impl MediaLocation {
    /// The file or folder that must exist for the video to be read.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Archived { archive: path, .. } => path,
        }
    }

    /// The name of the video in messages and in [`VideoInfo::path`](crate::VideoInfo::path): its path, or for an archived video the
    /// path of the archive followed by the name inside it.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Archived { archive, name, .. } => archive.join(name.trim_start_matches('/')),
        }
    }

    /// The same location with [`MediaLocation::path`] replaced by `change(path)`.
    pub(crate) fn moved(&self, change: impl FnOnce(&Path) -> PathBuf) -> Self {
        let mut moved = self.clone();
        let (Self::Path(path) | Self::Archived { archive: path, .. }) = &mut moved;
        *path = change(path);
        moved
    }
}
