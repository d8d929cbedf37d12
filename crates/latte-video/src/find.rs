//! Finds the videos below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result, frame_folder};

/// What is taken for a video file, by the end of its name.
pub(crate) const VIDEO_EXTENSIONS: [&str; 21] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv", "ts", "m2ts", "3gp", "ogv", "asf", "divx", "y4m",
    "h264", "h265", "hevc", "264",
];

/// All videos below `dir`, at any depth, sorted by path: files whose names end like a video's, and folders that hold
/// frames (image files, and no video file beside them). Names that begin with a dot are passed over.
///
/// # Errors
///
/// If `dir` cannot be read, or holds no video at all.
pub fn find_videos(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let Found { files, folders } = Found::below(dir)?;
    let mut videos = files;
    videos.extend(folders.into_iter().filter(|folder| !folder.has_files).map(|folder| folder.path));
    if videos.is_empty() {
        let what = format!(
            "no video in this folder: looked for files ending in {} and for folders of frames",
            VIDEO_EXTENSIONS.join(", ")
        );
        return Err(Error::folder(dir, what));
    }
    videos.sort();
    Ok(videos)
}

/// What lies below a folder, each list sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files whose names end like a video's.
    pub(crate) files: Vec<PathBuf>,
    /// Folders that hold image files.
    pub(crate) folders: Vec<FoundFrames>,
}

/// A folder that holds image files.
#[derive(Debug)]
pub(crate) struct FoundFrames {
    pub(crate) path: PathBuf,
    /// Video files lie beside the images, which are then hardly its frames.
    pub(crate) has_files: bool,
}

impl Found {
    /// Looks at any depth. Names that begin with a dot are passed over.
    pub(crate) fn below(dir: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.visit(dir, &mut Vec::new())?;
        found.files.sort();
        found.folders.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn visit(&mut self, dir: &Path, ancestors: &mut Vec<PathBuf>) -> Result<()> {
        let real = dir.canonicalize().map_err(|e| Error::io(dir, e))?;
        // A link to a folder above would go round for ever.
        if ancestors.contains(&real) {
            return Ok(());
        }
        ancestors.push(real);
        let (mut folders, mut has_frames, before) = (Vec::new(), false, self.files.len());
        for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
            let entry = entry.map_err(|e| Error::io(dir, e))?;
            let path = entry.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
                continue;
            }
            // A data set may have millions of frames: only links are looked at more closely than the folder's own entries.
            let kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
            let is_dir = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
            if is_dir {
                folders.push(path);
            } else if has_extension(&path, &VIDEO_EXTENSIONS) {
                self.files.push(path);
            } else if has_extension(&path, &frame_folder::EXTENSIONS) {
                has_frames = true;
            }
        }
        if has_frames {
            self.folders.push(FoundFrames { path: dir.to_path_buf(), has_files: self.files.len() > before });
        }
        for folder in folders {
            self.visit(&folder, ancestors)?;
        }
        ancestors.pop();
        Ok(())
    }
}

pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    extensions.contains(&extension.as_str())
}
