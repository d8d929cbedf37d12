//! Finds the videos below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result, frame_folder};

/// What is taken for a video file, by the end of its name.
pub(crate) const VIDEO_EXTENSIONS: [&str; 17] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv", "ts", "m2ts", "3gp", "ogv", "asf", "divx", "y4m"];

/// All videos below `dir`, at any depth, sorted by path: files whose names end like a video's, and folders that hold
/// frames (image files, and no video file beside them). Names that begin with a dot are passed over.
///
/// # Errors
///
/// If `dir` cannot be read, or holds no video at all.
pub fn find_videos(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let mut found = Vec::new();
    visit(dir, &mut Vec::new(), &mut found)?;
    if found.is_empty() {
        let what = format!(
            "no video in this folder: looked for files ending in {} and for folders of frames",
            VIDEO_EXTENSIONS.join(", ")
        );
        return Err(Error::folder(dir, what));
    }
    found.sort();
    Ok(found)
}

fn visit(dir: &Path, ancestors: &mut Vec<PathBuf>, found: &mut Vec<PathBuf>) -> Result<()> {
    let real = dir.canonicalize().map_err(|e| Error::io(dir, e))?;
    // A link to a folder above would go round for ever.
    if ancestors.contains(&real) {
        return Ok(());
    }
    ancestors.push(real);
    let (mut folders, mut has_frames, before) = (Vec::new(), false, found.len());
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if has_extension(&path, &VIDEO_EXTENSIONS) {
            found.push(path);
        } else if has_extension(&path, &frame_folder::EXTENSIONS) {
            has_frames = true;
        }
    }
    if has_frames && found.len() == before {
        found.push(dir.to_path_buf());
    }
    for folder in folders {
        visit(&folder, ancestors, found)?;
    }
    ancestors.pop();
    Ok(())
}

pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    extensions.contains(&extension.as_str())
}
