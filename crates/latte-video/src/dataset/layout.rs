//! Layouts of data sets on disk: the paper's four, any folder, a list of videos, archives.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Dataset, Item, MediaLocation, Skipped, name_below};
use crate::find::{Found, is_hidden};
use crate::{ClipWindow, Error, FrameRule, Result, Transform, frame_folder};

/// The layout of a data set on disk, which also selects the official rules for making clips.
///
/// In every layout, names that begin with a dot are skipped, and videos are sorted by path (byte order: class numbers and
/// fingerprints depend on it). The frames of a folder are in natural order, `frame_2.png` before `frame_10.png`. A folder with
/// images is a video only if no sub-folder has videos or images. Each of the paper's data sets consists of video files or of
/// folders of frames; if a root has none of that kind, the other kind is used, so that a data set may be converted into frame
/// folders or into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Video files and folders of frames at any depth. Folders directly below the root are classes.
    #[default]
    Folder,
    /// FaceForensics: every video file below the root, at any depth. No classes.
    #[serde(rename = "faceforensics")]
    FaceForensics,
    /// SkyTimelapse: folders of frames at any depth; a folder needs more frames than a window covers. No classes.
    #[serde(rename = "skytimelapse")]
    SkyTimelapse,
    /// UCF101: `<class>/<video file>`; class numbers are the positions of the folder names in sorted order.
    Ucf101,
    /// Taichi-HD: folders of frames at any depth, which have the training size. No classes.
    TaichiHd,
    /// A csv, tsv, jsonl, json or parquet file with one row per video: [`Dataset::from_manifest`].
    Manifest,
    /// WebDataset shards, tar files: [`Dataset::from_shards`].
    Shards,
}

/// How the official reader of a data set makes a clip from a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutRules {
    /// How frames are selected.
    pub frame_rule: FrameRule,
    /// How frames are resized to the size of training.
    pub transform: Transform,
    /// Whether every other clip is mirrored, before the transform.
    pub flip: bool,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 7] =
        [Self::Folder, Self::FaceForensics, Self::SkyTimelapse, Self::Ucf101, Self::TaichiHd, Self::Manifest, Self::Shards];

    /// The name in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::FaceForensics => "faceforensics",
            Self::SkyTimelapse => "skytimelapse",
            Self::Ucf101 => "ucf101",
            Self::TaichiHd => "taichi_hd",
            Self::Manifest => "manifest",
            Self::Shards => "shards",
        }
    }

    /// The default rules for clips. Layouts other than the paper's data sets use the rules of FaceForensics without mirroring.
    pub fn rules(self) -> LayoutRules {
        let (frame_rule, transform, flip) = match self {
            Self::Folder | Self::Manifest | Self::Shards => (FrameRule::Linspace, Transform::ResizeCrop, false),
            Self::FaceForensics | Self::Ucf101 => (FrameRule::Linspace, Transform::ResizeCrop, true),
            Self::SkyTimelapse => (FrameRule::OfficialStride, Transform::CropResize, false),
            Self::TaichiHd => (FrameRule::OfficialStride, Transform::None, true),
        };
        LayoutRules { frame_rule, transform, flip }
    }

    /// Whether its videos have classes or may have them.
    pub fn has_classes(self) -> bool {
        matches!(self, Self::Folder | Self::Ucf101 | Self::Manifest | Self::Shards)
    }

    /// Number of classes of the published data set.
    pub fn num_classes(self) -> Option<usize> {
        (self == Self::Ucf101).then_some(101)
    }

    /// Whether its classes are sub-folders.
    pub fn classes_are_folders(self) -> bool {
        matches!(self, Self::Folder | Self::Ucf101)
    }

    /// Lists a layout of folders like [`Layout::list`], and returns what was skipped.
    pub(super) fn list_folders(self, root: &Path) -> Result<(Dataset, Skipped)> {
        if !root.is_dir() {
            return Err(Error::folder(root, "no such folder; expected a folder of videos"));
        }
        let classes = if self.has_classes() { sub_folders(root)? } else { Vec::new() };
        if self == Self::Ucf101 && classes.is_empty() {
            return Err(Error::folder(root, "no sub-folder: the videos of each class lie in a sub-folder named after the class"));
        }
        let mut items = Vec::new();
        let (videos, mut skipped) = self.videos(Found::below(root)?);
        for path in videos {
            // An index and a latent cache are text files: a video whose name they cannot store is never part of the data set.
            if path.strip_prefix(root).unwrap_or(&path).to_str().is_none() {
                skipped.add(Error::folder(&path, "its name is no Unicode; rename it"));
                continue;
            }
            let name = name_below(root, &path);
            let first = name.split('/').next().unwrap_or_default();
            // The first part of the name is a folder unless the video lies in the root.
            let label = classes.binary_search_by(|class| class.as_str().cmp(first)).ok().map(|label| label as u32);
            if self == Self::Ucf101 && label.is_none() {
                continue;
            }
            items.push(Item { name, place: MediaLocation::Path(path), label, caption: None, info: None });
        }
        if items.is_empty() {
            let what = "no video in this folder (a video is a video file, or a folder of png or jpeg frames)";
            return Err(Error::folder(root, format!("{what}{}", skipped.first())));
        }
        Ok((Dataset { root: root.to_path_buf(), items, classes }, skipped))
    }

    /// Removes the videos that the official reader leaves out for a `window` and returns their number: SkyTimelapse folders with no
    /// more frames than the official rule covers. Other layouts keep all videos; one that is too short is noticed when it is read.
    ///
    /// # Errors
    ///
    /// If no video is left.
    pub fn fit(self, dataset: &mut Dataset, window: &ClipWindow) -> Result<usize> {
        if self != Self::SkyTimelapse {
            return Ok(0);
        }
        let covered = window.num_frames.saturating_mul(window.frame_interval);
        let before = dataset.items.len();
        dataset.items.retain(|item| {
            let frames = match (&item.info, &item.place) {
                (Some(info), _) => Some(info.num_frames),
                (None, MediaLocation::Path(path)) if path.is_dir() => frame_folder::list(path).ok().map(|files| files.len()),
                _ => None,
            };
            // A folder whose frames cannot be counted stays: the reader reports why.
            frames.is_none_or(|frames| frames > covered)
        });
        if dataset.items.is_empty() {
            let what = format!(
                "none of the {before} videos has more than {covered} frames ({} frames, {} apart), which the SkyTimelapse layout \
                 asks for: use longer videos, fewer frames or a smaller interval",
                window.num_frames, window.frame_interval
            );
            return Err(Error::folder(&dataset.root, what));
        }
        Ok(before - dataset.items.len())
    }

    /// The videos of a layout, and what was skipped.
    fn videos(self, found: Found) -> (Vec<PathBuf>, Skipped) {
        let frames = |found: Found| (found.folders.into_iter().map(|folder| folder.path).collect(), found.skipped);
        match self {
            Self::Folder => found.files_and_frames(),
            Self::FaceForensics | Self::Ucf101 if !found.files.is_empty() => (found.files, found.skipped),
            Self::SkyTimelapse | Self::TaichiHd if found.folders.is_empty() => (found.files, found.skipped),
            _ => frames(found),
        }
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The names of the folders in `root`, sorted. A name that is not valid Unicode is left out, as are the videos in that folder.
fn sub_folders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(|e| Error::io(root, e))? {
        let entry = entry.map_err(|e| Error::io(root, e))?;
        if let Ok(name) = entry.file_name().into_string()
            && !is_hidden(name.as_ref())
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
