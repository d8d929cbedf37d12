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
    /// A configuration that cannot be read or describes no possible run.
    #[error("{source_name}: {key}: {what}")]
    Config {
        /// The configuration file, or `--set`.
        source_name: String,
        /// The key that is wrong, as `section.key`.
        key: String,
        /// What was expected, what was found, and what to do.
        what: String,
    },
    /// A folder of videos that cannot be trained on.
    #[error("{path}: {what}")]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A checkpoint that cannot be used.
    #[error("{path}: {what}")]
    Checkpoint {
        /// The checkpoint, or a file in it.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The loss or the gradient is not finite. The weights on disk are unchanged.
    #[error(
        "step {step}: {what}; nothing of this step was kept. {}. \
         Try a lower `optimizer.learning_rate`, a longer `optimizer.warmup_steps`, or a smaller `optimizer.max_grad_norm` with `optimizer.start_clip_iter = 0`",
        last_good(.checkpoint.as_deref())
    )]
    Diverged {
        /// The optimiser step that failed, counted from 1.
        step: u64,
        /// Which number was not finite.
        what: String,
        /// The newest checkpoint on disk.
        checkpoint: Option<PathBuf>,
    },
    /// A trainable parameter got no gradient.
    #[error("no gradient reached the parameter `{0}`: the network does not use it, or an operation dropped its gradient")]
    NoGradient(String),
    /// Clips that were generated during the run cannot be scored.
    #[error("evaluation: {0}")]
    Evaluator(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The system could not read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The model, the diffusion process or a weights file is invalid.
    #[error(transparent)]
    Latte(#[from] latte_model::Error),
    /// Clips cannot be generated from the weights.
    #[error(transparent)]
    Generate(#[from] latte::Error),
    /// A video or a data set cannot be read, or a clip cannot be written.
    #[error(transparent)]
    Video(#[from] latte_video::Error),
    /// An operation failed.
    #[error(transparent)]
    Ops(#[from] latte_ops::Error),
    /// The tensor library failed (out of memory, a device error).
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<latte_model::weights::Error> for Error {
    fn from(error: latte_model::weights::Error) -> Self {
        Self::Latte(error.into())
    }
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("The last good checkpoint is {}", path.display()),
        None => "No checkpoint has been written yet".to_string(),
    }
}

impl Error {
    /// Whether the system did not find a file.
    pub(crate) fn is_not_found(&self) -> bool {
        use latte_model::Error as OfModel;
        use latte_model::weights::Error as OfWeights;
        match self {
            Self::Io { source, .. }
            | Self::Latte(OfModel::Io { source, .. } | OfModel::Weights(OfWeights::Io { source, .. })) => {
                source.kind() == std::io::ErrorKind::NotFound
            }
            _ => false,
        }
    }

    pub(crate) fn config(source_name: impl Into<String>, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { source_name: source_name.into(), key: key.into(), what: what.into() }
    }

    /// An error of a part of the configuration, with its key in the file.
    pub(crate) fn of_configuration(error: latte_model::Error) -> Self {
        match error {
            latte_model::Error::Config { key, what } => Self::config("configuration", key, what),
            other => other.into(),
        }
    }

    pub(crate) fn data(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Data { path: path.into(), what: what.into() }
    }

    pub(crate) fn checkpoint(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), what: what.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
