//! The errors of this crate.

use std::path::PathBuf;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`, so that a new variant fails the build wherever variants are matched, such as the exit codes of the
/// command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting, or a set of clips or features, from which no meaningful score can be computed.
    #[error("{subject}: {what}")]
    Refused {
        /// The setting or the set.
        subject: String,
        /// What was expected and found, and what to do.
        what: String,
    },
    /// A file of features, results or clips is invalid.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A weights file is wrong.
    #[error(transparent)]
    Weights(#[from] latte_weights::Error),
    /// A video cannot be read.
    #[error(transparent)]
    Video(#[from] latte_video::Error),
    /// An operation failed.
    #[error(transparent)]
    Ops(#[from] latte_ops::Error),
    /// The tensor library failed (out of memory, a device error).
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn refused(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Refused { subject: subject.into(), what: what.into() }
    }
}
