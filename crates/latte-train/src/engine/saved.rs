//! The checkpoint that a run resumes from.

use std::path::Path;

use latte_model::checkpoint::CheckpointFolder;

use super::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::{Error, Result};

/// The checkpoint that a run resumes from.
#[derive(Debug)]
pub struct Saved<'a, C> {
    /// Its folder.
    pub path: &'a Path,
    /// What it holds.
    pub checkpoint: Checkpoint<C>,
    checkpoints: &'a CheckpointFolder,
}

impl<'a, C: RunConfig> Saved<'a, C> {
    /// Loads the newest of `checkpoints`, which is at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be read; the error names the checkpoint that the run can resume from instead.
    pub(crate) fn load(checkpoints: &'a CheckpointFolder, path: &'a Path) -> Result<Self> {
        Ok(Self { path, checkpoint: whole(checkpoints, path, Checkpoint::load(path))?, checkpoints })
    }

    /// Passes on the result of reading a part of the checkpoint. If that failed, the error names the checkpoint that the run can resume
    /// from instead.
    ///
    /// # Errors
    ///
    /// The error of `read`, with that advice.
    pub fn readable<T>(&self, read: Result<T>) -> Result<T> {
        whole(self.checkpoints, self.path, read)
    }

    /// The error of a checkpoint whose `what` differs from this configuration's.
    pub fn is_of_another(&self, what: &str) -> Error {
        let what = format!("{what} is another one than this configuration's; put it back, or set another `output.run`");
        Error::checkpoint(self.path, what)
    }
}

/// Passes on the result of reading the newest of `checkpoints`, which is at `path`. If that failed, the error names the checkpoint that the
/// run can resume from instead.
fn whole<T>(checkpoints: &CheckpointFolder, path: &Path, read: Result<T>) -> Result<T> {
    let cause = match read {
        Ok(whole) => return Ok(whole),
        // It is whole, and of no use to this program.
        Err(newer @ Error::Latte(latte_model::Error::NewerLayout { .. })) => return Err(newer),
        Err(e) => e.to_string(),
    };
    // Nobody has another copy of it.
    let cause = match cause.rsplit_once("; ") {
        Some((cause, advice)) if advice.ends_with("copy it again") => cause,
        _ => &cause,
    };
    Err(Error::checkpoint(path, format!("the newest checkpoint cannot be read ({cause}); {}", checkpoints.way_on_without(path)?)))
}
