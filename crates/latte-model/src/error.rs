//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in this crate. Messages say what, where, what was expected, what was found, and what to do.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant, as the command does for its exit code, of a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that describes no possible model, schedule or sampler.
    #[error("{key}: {what}")]
    Config {
        /// The configuration key, or the command-line value, that is wrong.
        key: String,
        /// Expected, found, and what to do.
        what: String,
    },
    /// A tensor of the wrong shape was handed in: a mistake of the calling program. Shapes in files are [`Error::Weights`].
    #[error("{name}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        name: String,
        /// The shape that was expected, in words or letters.
        expected: String,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A weights file that does not fit the model or cannot be understood.
    #[error(transparent)]
    Weights(#[from] latte_weights::Error),
    /// A checkpoint that a newer version of this program wrote.
    #[error("{path}: written in layout {layout} by a newer version; this one reads up to {known}: please update")]
    NewerLayout {
        /// The checkpoint, or a file in it.
        path: PathBuf,
        /// Its layout.
        layout: u32,
        /// The newest layout that this version knows.
        known: u32,
    },
    /// A computation gave values that are no numbers.
    #[error("{what}: {count} of {of} values are not finite (NaN or infinite){}", .cause.as_ref().map_or(String::new(), |cause| format!("; {cause}")))]
    NotFinite {
        /// Whose values, and in which step.
        what: String,
        /// How many of them are not finite.
        count: usize,
        /// How many there are.
        of: usize,
        /// Why, where that is known.
        cause: Option<String>,
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
    /// An operation was given what it cannot take.
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
