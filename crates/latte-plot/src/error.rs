//! What can go wrong in this crate.

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that holds no run.
    #[error("{path}: no metrics.jsonl here: expected the folder of a run, as `latte train` writes it")]
    NoRun {
        /// The folder or file.
        path: std::path::PathBuf,
    },
    /// A metric that no run has, or a name that several have.
    #[error("--metric {metric}: {problem}")]
    Metric {
        /// What was asked for.
        metric: String,
        /// Expected, found.
        problem: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] latte_train::Error),
}

impl Error {
    pub(crate) fn metric(metric: &str, problem: String) -> Self {
        Self::Metric { metric: metric.into(), problem }
    }
}
