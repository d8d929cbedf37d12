//! Finds the videos below a folder.
//!
//! A video is a video file, or a folder of frames: one that holds images and has no sub-folder with videos or frames in it. So a
//! contact sheet beside folders of frames makes no video of the folder above them; a message names what is skipped like this.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use crate::dataset::Skipped;
use crate::extension::has_extension;
use crate::image_file::{EXTENSIONS as IMAGES, OTHER_EXTENSIONS as OTHER_IMAGES};
use crate::{Error, Result};

/// What is taken for a video file, by the end of its name.
pub(crate) const VIDEO_EXTENSIONS: [&str; 22] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv", "ts", "m2ts", "3gp", "ogv", "asf", "divx", "y4m",
    "h264", "h265", "hevc", "264", "gif",
];

/// All videos below `dir`, at any depth, sorted by path: files whose names end like a video's, and folders that hold
/// frames (image files, no video file beside them, and no videos or frames in their sub-folders). Names that begin with a dot are
/// skipped, and a gif beside a video file of the same name.
///
/// # Errors
///
/// If `dir` cannot be read, or holds no video at all.
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

/// What lies below a folder, each list sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files whose names end like a video's.
    pub(crate) files: Vec<PathBuf>,
    /// Folders of frames.
    pub(crate) folders: Vec<FoundFrames>,
    /// What is no video though it looks like one, and what cannot be looked into.
    pub(crate) skipped: Skipped,
}

/// A folder of frames.
#[derive(Debug)]
pub(crate) struct FoundFrames {
    pub(crate) path: PathBuf,
    /// How many images it has, and how one is called.
    images: Images,
    /// How many video files lie beside the images, which are then hardly its frames.
    pub(crate) files: usize,
}

/// Images of a folder.
#[derive(Debug, Default)]
struct Images {
    count: usize,
    /// The name that is first in the alphabet.
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
    /// Looks at any depth. Names that begin with a dot are skipped.
    pub(crate) fn below(dir: &Path) -> Result<Self> {
        let mut found = Self::default();
        found.visit(dir, &mut Vec::new())?;
        found.files.sort();
        found.folders.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Video files and folders of frames, sorted by path, and what is skipped. Images beside video files are no frames: where
    /// there are more of them than there are videos, which may have a preview each, they are reported.
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

    /// Looks into a folder, and says whether it or a folder below it holds videos or images.
    fn visit(&mut self, dir: &Path, ancestors: &mut Vec<PathBuf>) -> Result<bool> {
        let real = dir.canonicalize().map_err(|e| Error::io(dir, e))?;
        // A link to a folder above would go round for ever.
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
                // One that cannot be looked into is no reason to do without the others.
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

/// A data set may have millions of frames: only links are looked at more closely than the folder's own entries.
fn kind(entry: &DirEntry, path: &Path) -> Result<EntryKind> {
    let kind = entry.file_type().map_err(|e| Error::io(path, e))?;
    let (is_dir, is_file) = if kind.is_symlink() {
        // A link to nowhere is a file that cannot be read, which is reported when it is opened.
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

/// The video files of a folder without gifs of the same name as another one: such a gif is the same clip once more, to be looked at.
fn without_copies(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_gif = |path: &Path| has_extension(path, &["gif"]);
    let stems: BTreeSet<_> =
        files.iter().filter(|file| !is_gif(file)).filter_map(|file| file.file_stem()).map(OsStr::to_os_string).collect();
    files.retain(|file| !is_gif(file) || file.file_stem().is_none_or(|stem| !stems.contains(stem)));
    files
}

/// Whether files and folders of this name are skipped: those that begin with a dot, and folders that storage servers and archive
/// programs fill with previews.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "@eaDir" || name == "__MACOSX"
}
