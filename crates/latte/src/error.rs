//! The errors of this crate.

use std::path::{Path, PathBuf};

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. Messages say what failed, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: code that matches every variant, such as the exit codes of the command, then fails to compile when a
/// variant is added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A [`CancelToken`](crate::CancelToken) stopped the work.
    #[error("the work was cancelled")]
    Cancelled,
    /// A request, configuration or setting is invalid.
    #[error("{key}: {problem}")]
    Config {
        /// The field, configuration key or setting that is wrong.
        key: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// A model cannot be opened or run.
    #[error(transparent)]
    Model(latte_model::Error),
    /// A clip cannot be written.
    #[error(transparent)]
    Video(#[from] latte_video::Error),
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl From<latte_model::Error> for Error {
    fn from(error: latte_model::Error) -> Self {
        match error {
            latte_model::Error::Config { key, what } => Self::Config { key, problem: what },
            latte_model::Error::Ops(latte_ops::Error::Cancelled) => Self::Cancelled,
            latte_model::Error::Io { path, source } | latte_model::Error::Weights(latte_weights::Error::Io { path, source }) => {
                Self::Io { path, source }
            }
            other => Self::Model(other),
        }
    }
}

impl From<latte_weights::Error> for Error {
    fn from(error: latte_weights::Error) -> Self {
        latte_model::Error::from(error).into()
    }
}

impl From<latte_ops::Error> for Error {
    fn from(error: latte_ops::Error) -> Self {
        latte_model::Error::from(error).into()
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { key: key.into(), problem: problem.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
