//! The errors of this crate.

use std::path::PathBuf;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of a video has no class.
    #[error(
        "{path}: expected a name that begins with a class of the demo and `_`, for example right_red_square_seed0.mp4, or a folder of \
         the class's name around it; measure what a model of the demo's classes made"
    )]
    NoClass {
        /// The video.
        path: PathBuf,
    },
    /// A video cannot be read or written.
    #[error(transparent)]
    Video(#[from] latte_video::Error),
    /// A folder cannot be created.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}
