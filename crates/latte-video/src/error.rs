//! The errors of this crate and their messages.

use std::path::{Path, PathBuf};

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`, so that a new variant fails the build wherever variants are matched, such as the exit codes of the
/// command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a video, or its format is unknown.
    #[error("{path}: not a video that can be read here: {what}")]
    NotVideo {
        /// The file.
        path: PathBuf,
        /// What was expected, and what to do.
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
    /// A folder is not a frame folder, or its frames do not belong together.
    #[error("{path}: {what}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A manifest, or a row of it, cannot be used.
    #[error("{path}, {place}: {what}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The line or row, and the column.
        place: String,
        /// What is wrong, what was expected, and what to do.
        what: String,
    },
    /// Labels that do not define classes: numbers with gaps, or a few words among numbers.
    #[error(transparent)]
    Labels(Box<Self>),
    /// A frame index is out of range.
    #[error("{path}: frame {index} was asked for, but the video has {total} frames (0 to {})", total.saturating_sub(1))]
    FrameIndex {
        /// The file.
        path: PathBuf,
        /// The requested frame.
        index: usize,
        /// Number of frames of the video.
        total: usize,
    },
    /// A clip window does not fit into a video.
    #[error("{0}")]
    Window(String),
    /// Invalid pixels, shape, size or rate.
    #[error("{0}")]
    Shape(String),
    /// The `ffmpeg` or `ffprobe` program was requested and is not installed.
    #[error("{path}: {program} is not found: install ffmpeg, or set LATTE_FFMPEG to it, or use the built-in {instead}")]
    NoProgram {
        /// The video.
        path: PathBuf,
        /// The program.
        program: &'static str,
        /// The built-in replacement: `decoder` or `encoder`.
        instead: &'static str,
    },
    /// The `ffmpeg` or `ffprobe` program failed.
    #[error("{path}: {what}")]
    Ffmpeg {
        /// The video, or the program.
        path: PathBuf,
        /// What happened, with the program's own message.
        what: String,
    },
    /// The file format does not support the clip or the options: the clip is too small or too large, or overflows the encoder's buffer,
    /// or the quality is out of range.
    #[error("{path}: cannot write this clip: {what}")]
    Format {
        /// The output file.
        path: PathBuf,
        /// What the format supports, what it was given, and what to do.
        what: String,
    },
    /// An encoder failed, or the number of pixels does not match the size.
    #[error("{path}: cannot write this clip: {what}")]
    Encode {
        /// The output file.
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
