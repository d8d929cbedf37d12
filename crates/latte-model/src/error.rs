//! The errors of this crate.

use std::path::{Path, PathBuf};

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: code that decides by variant, as the command does for its exit code, must handle every new variant to
/// compile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that describes no valid model, schedule or sampler.
    #[error("{key}: {what}")]
    Config {
        /// The configuration key, or the command-line value, that is wrong.
        key: String,
        /// What was expected and found, and what to do.
        what: String,
    },
    /// A tensor of the wrong shape was handed in: a mistake of the calling program. Shapes in files are [`Error::Weights`].
    #[error("{name}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The shape that was expected, in words or letters.
        expected: String,
        /// The shape of the tensor.
        got: Vec<usize>,
    },
    /// A weights file does not fit the model or cannot be parsed.
    #[error(transparent)]
    Weights(#[from] latte_weights::Error),
    /// A newer version of this program wrote the checkpoint.
    #[error("{path}: written in layout {layout} by a newer version; this one reads up to {known}: please update")]
    NewerLayout {
        /// The checkpoint, or a file in it.
        path: PathBuf,
        /// Its layout.
        layout: u32,
        /// The newest layout that this version can read.
        known: u32,
    },
    /// A computation gave values that are NaN or infinite.
    #[error("{what}: {count} of {of} values are not finite (NaN or infinite){}", .cause.as_ref().map_or(String::new(), |cause| format!("; {cause}")))]
    NotFinite {
        /// The name of the values, and the step.
        what: String,
        /// The number of values that are not finite.
        count: usize,
        /// The number of values.
        of: usize,
        /// The cause, if it is known.
        cause: Option<String>,
    },
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The tensor library failed (out of memory, a device error).
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// An operation failed, for example because of its input shapes.
    #[error(transparent)]
    Ops(#[from] latte_ops::Error),
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { key: key.into(), what: what.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
