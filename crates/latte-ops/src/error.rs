//! What can go wrong in this crate.

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in an operation.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant, as the command does for its exit code, of a new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shapes that the operation cannot join.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A parameter that the set does not hold.
    #[error("no parameter `{0}`")]
    MissingParameter(String),
    /// A gradient is wanted of what has none.
    #[error("{0} has no gradient")]
    NoGradient(&'static str),
    /// A recomputed segment failed in the backward pass.
    #[error("while recomputing: {0}")]
    Recompute(Box<dyn std::error::Error + Send + Sync>),
    /// A [`CancelToken`](crate::CancelToken) asked the work to stop.
    #[error("the work was cancelled")]
    Cancelled,
    /// A device that cannot be had.
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
