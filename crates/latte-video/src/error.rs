//! What can go wrong with video files, and how it is said.

use std::path::{Path, PathBuf};

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant, as the command does for its exit code, of a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no video, or of a format that nothing here recognises.
    #[error("{path}: not a video that can be read here: {what}")]
    NotVideo {
        /// The file.
        path: PathBuf,
        /// What was looked for, and what to do.
        what: String,
    },
    /// The file is a video, but uses a codec or feature that the chosen decoder lacks.
    #[error("{path}: {what}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature, and what to do.
        what: String,
    },
    /// The file is damaged or cut off.
    #[error("{path}: damaged or cut off: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A folder that is no frame folder, or whose frames do not belong together.
    #[error("{path}: {what}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A manifest, or a row of it, that cannot be used.
    #[error("{path}, {place}: {what}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The line or row, and the column.
        place: String,
        /// What is wrong, what was expected, and what to do.
        what: String,
    },
    /// Labels that give no classes: numbers with gaps, or a few words among numbers.
    #[error(transparent)]
    Labels(Box<Self>),
    /// A frame was asked for that the video does not have.
    #[error("{path}: frame {index} was asked for, but the video has {total} frames (0 to {})", total.saturating_sub(1))]
    FrameIndex {
        /// The file.
        path: PathBuf,
        /// The frame asked for.
        index: usize,
        /// How many frames there are.
        total: usize,
    },
    /// A clip window does not fit into a video.
    #[error("{0}")]
    Window(String),
    /// Pixels, a shape, a size or a rate that cannot be.
    #[error("{0}")]
    Shape(String),
    /// The `ffmpeg` or `ffprobe` program was asked for and is not there.
    #[error("{path}: {program} is not found: install ffmpeg, or set LATTE_FFMPEG to it, or use the built-in {instead}")]
    NoProgram {
        /// The video.
        path: PathBuf,
        /// The program.
        program: &'static str,
        /// What does the same without it: `decoder` or `encoder`.
        instead: &'static str,
    },
    /// The `ffmpeg` or `ffprobe` program failed.
    #[error("{path}: {what}")]
    Ffmpeg {
        /// The video, or the program.
        path: PathBuf,
        /// What happened, with the program's own words.
        what: String,
    },
    /// The format of a file has no room for what was to be written: a clip that is too small or too large for it, or has more detail
    /// than its encoder takes, or a quality that it does not have.
    #[error("{path}: cannot write this clip: {what}")]
    Format {
        /// The file that was to be written.
        path: PathBuf,
        /// What the format takes, what it was given, and what to do.
        what: String,
    },
    /// An encoder failed, or was given pixels that make no image of the stated size.
    #[error("{path}: cannot write this clip: {what}")]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn not_video(path: &Path, what: impl Into<String>) -> Self {
        Self::NotVideo { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn folder(path: &Path, what: impl Into<String>) -> Self {
        Self::Folder { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn manifest(path: &Path, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Manifest { path: path.to_path_buf(), place: place.into(), what: what.into() }
    }

    pub(crate) fn labels(error: Self) -> Self {
        Self::Labels(Box::new(error))
    }

    pub(crate) fn ffmpeg(path: &Path, what: impl Into<String>) -> Self {
        Self::Ffmpeg { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn encode(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::Encode { path: path.to_path_buf(), what: what.to_string() }
    }
}
