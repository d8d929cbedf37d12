//! Finds the videos below a folder.
//!
//! A video is a video file, or a folder of frames: a folder that holds images and has no sub-folder with videos or frames. So a
//! contact sheet beside folders of frames does not make a video of their parent; it is skipped with a message.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use crate::dataset::Skipped;
use crate::extension::has_extension;
use crate::image_file::{EXTENSIONS as IMAGES, OTHER_EXTENSIONS as OTHER_IMAGES};
use crate::{Error, Result};

/// Extensions of video files.
pub(crate) const VIDEO_EXTENSIONS: [&str; 22] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv", "ts", "m2ts", "3gp", "ogv", "asf", "divx", "y4m",
    "h264", "h265", "hevc", "264", "gif",
];

/// All videos below `dir`, at any depth, sorted by path: files with the extension of a video, and folders of frames (image files,
/// no video file beside them, and no videos or frames in their sub-folders). Skipped are names that begin with a dot, and a gif
/// beside a video file of the same name.
///
/// # Errors
///
/// If `dir` cannot be read, or holds no video.
pub fn find_videos(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let dir = dir.as_ref();
    let (videos, skipped) = Found::below(dir)?.files_and_frames();
    if videos.is_empty() {
        let what = format!(
            "no video in this folder: looked for files ending in {} and for folders of frames{}",
            VIDEO_EXTENSIONS.join(", "),
            skipped.first()
        );
        return Err(Error::folder(dir, what));
    }
    Ok(videos)
}

/// The contents of a folder, each list sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files with the extension of a video.
    pub(crate) files: Vec<PathBuf>,
    /// Folders of frames.
    pub(crate) folders: Vec<FoundFrames>,
    /// Images that form no video, and folders that cannot be read.
    pub(crate) skipped: Skipped,
}

/// A folder of frames.
#[derive(Debug)]
pub(crate) struct FoundFrames {
    pub(crate) path: PathBuf,
    /// Its images.
    images: Images,
    /// Number of video files beside the images; the images are then probably not frames.
    pub(crate) files: usize,
}

/// The images of a folder.
#[derive(Debug, Default)]
struct Images {
    count: usize,
    /// The alphabetically first name.
    first: String,
}

impl Images {
    fn add(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if self.count == 0 || *name < *self.first {
            self.first = name.into_owned();
        }
        self.count += 1;
    }
}

impl std::fmt::Display for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.count {
            1 => write!(f, "one image (`{}`)", self.first),
            count => write!(f, "{count} images (the first is `{}`)", self.first),
        }
    }
}

impl Found {
    /// Searches at any depth. Names that begin with a dot are skipped.
    pub(crate) fn below(dir: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.visit(dir, &mut Vec::new())?;
        found.files.sort();
        found.folders.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Video files and folders of frames, sorted by path, and what was skipped. Images beside video files are not frames: they are
    /// reported if they outnumber the videos, each of which may have a preview.
    pub(crate) fn files_and_frames(self) -> (Vec<PathBuf>, Skipped) {
        let Self { mut files, folders, mut skipped } = self;
        for FoundFrames { path, images, files: beside } in folders {
            if beside == 0 {
                files.push(path);
            } else if images.count > beside {
                skipped
                    .add(Error::folder(&path, format!("{images} beside video files, which are taken for no frames of a video")));
            }
        }
        files.sort();
        (files, skipped)
    }

    /// Searches a folder; returns whether it or a folder below it holds videos or images.
    fn visit(&mut self, dir: &Path, ancestors: &mut Vec<PathBuf>) -> Result<bool> {
        let real = dir.canonicalize().map_err(|e| Error::io(dir, e))?;
        // A link to an ancestor would never end.
        if ancestors.contains(&real) {
            return Ok(false);
        }
        let entries = fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
        ancestors.push(real);
        let (mut folders, mut files, mut images, mut others) = (Vec::new(), Vec::new(), Images::default(), Images::default());
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(dir, e))?;
            let path = entry.path();
            if path.file_name().is_some_and(is_hidden) {
                continue;
            }
            let is_video = has_extension(&path, &VIDEO_EXTENSIONS);
            match kind(&entry, &path)? {
                EntryKind::Folder => folders.push(path),
                EntryKind::File if is_video => files.push(path),
                EntryKind::File if has_extension(&path, &IMAGES) => images.add(&path),
                EntryKind::File if has_extension(&path, &OTHER_IMAGES) => others.add(&path),
                EntryKind::Other if is_video => {
                    self.skipped.add(Error::folder(&path, "neither a file nor a folder, but a pipe, a socket or a device"));
                }
                EntryKind::File | EntryKind::Other => {}
            }
        }
        let files = without_copies(files);
        let mut below = false;
        for folder in folders {
            match self.visit(&folder, ancestors) {
                Ok(has_some) => below |= has_some,
                // One unreadable folder must not make the others unusable.
                Err(e) => self.skipped.add(e),
            }
        }
        ancestors.pop();
        if others.count > files.len() {
            let what = format!("{others} of formats that are no frames here; frames are PNG or JPEG files: convert them");
            self.skipped.add(Error::folder(dir, what));
        }
        let here = !files.is_empty() || images.count > 0;
        if images.count > 0 {
            if below {
                let what = format!("{images} beside folders with videos or frames in them, which makes no video of this folder");
                self.skipped.add(Error::folder(dir, what));
            } else {
                self.folders.push(FoundFrames { path: dir.to_path_buf(), images, files: files.len() });
            }
        }
        self.files.extend(files);
        Ok(here || below)
    }
}

enum EntryKind {
    Folder,
    File,
    Other,
}

/// Data sets have millions of frames: the type comes from the directory entry, and only links need a further call.
fn kind(entry: &DirEntry, path: &Path) -> Result<EntryKind> {
    let kind = entry.file_type().map_err(|e| Error::io(path, e))?;
    let (is_dir, is_file) = if kind.is_symlink() {
        // A broken link counts as a file; opening it reports the error.
        fs::metadata(path).map_or((false, true), |meta| (meta.is_dir(), meta.is_file()))
    } else {
        (kind.is_dir(), kind.is_file())
    };
    Ok(if is_dir {
        EntryKind::Folder
    } else if is_file {
        EntryKind::File
    } else {
        EntryKind::Other
    })
}

/// Removes each gif that has the name of another video file: it is a preview of the same clip.
fn without_copies(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_gif = |path: &Path| has_extension(path, &["gif"]);
    let stems: BTreeSet<_> =
        files.iter().filter(|file| !is_gif(file)).filter_map(|file| file.file_stem()).map(OsStr::to_os_string).collect();
    files.retain(|file| !is_gif(file) || file.file_stem().is_none_or(|stem| !stems.contains(stem)));
    files
}

/// Whether files and folders of this name are skipped: those that begin with a dot, and folders that storage servers and archivers
/// create for previews.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "@eaDir" || name == "__MACOSX"
}
