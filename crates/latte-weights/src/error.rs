//! The errors of weight files.

use std::path::PathBuf;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a weight file. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: code that decides by variant, as the command does for its exit code, must handle every new variant to
/// compile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file does not fit the model or cannot be parsed.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// The problem, and what to do.
        what: String,
    },
    /// A tensor has another shape than expected.
    #[error("{name}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The shape that was expected.
        expected: String,
        /// The shape that was found.
        got: Vec<usize>,
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
    /// A parameter is missing.
    #[error(transparent)]
    Ops(#[from] latte_ops::Error),
}
