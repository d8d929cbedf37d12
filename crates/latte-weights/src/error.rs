//! What can go wrong with weight files.

use std::path::PathBuf;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with weight files. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant, as the command does for its exit code, of a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that does not fit the model or cannot be understood.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A tensor that has another shape than the one that was asked for.
    #[error("{name}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
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
        /// What the system said.
        source: std::io::Error,
    },
    /// The tensor library failed (out of memory, a device error).
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A parameter that is not there.
    #[error(transparent)]
    Ops(#[from] latte_ops::Error),
}
