//! What can go wrong in this crate.

use std::path::PathBuf;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant, as the command does for its exit code, of a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting, or a set of clips or features, that no meaningful number comes from.
    #[error("{subject}: {what}")]
    Refused {
        /// The setting or the set.
        subject: String,
        /// Expected, found, and what to do.
        what: String,
    },
    /// A file of features, results or clips that cannot be understood.
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
        /// What the system said.
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
