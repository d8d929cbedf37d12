//! The errors of this crate.

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an operation.
///
/// Not `non_exhaustive`: code that decides by variant, as the command does for its exit code, must handle every new variant to
/// compile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shapes that do not fit the operation or each other.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The name of the operation.
        op: &'static str,
        /// The shapes that the operation expects.
        expected: String,
        /// The shapes that it got.
        got: String,
    },
    /// A parameter that the set does not hold.
    #[error("no parameter `{0}`")]
    MissingParameter(String),
    /// A gradient was asked for through an operation that has none.
    #[error("{0} has no gradient")]
    NoGradient(&'static str),
    /// A recomputed segment failed in the backward pass.
    #[error("while recomputing: {0}")]
    Recompute(Box<dyn std::error::Error + Send + Sync>),
    /// A [`CancelToken`](crate::CancelToken) asked the work to stop.
    #[error("the work was cancelled")]
    Cancelled,
    /// A device cannot be opened.
    #[error("device: {0}")]
    Device(String),
    /// The tensor library failed (out of memory, a device error).
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn shape(op: &'static str, expected: impl Into<String>, got: impl std::fmt::Debug) -> Self {
        Self::Shape { op, expected: expected.into(), got: format!("{got:?}") }
    }
}
