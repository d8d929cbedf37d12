//! The event files of a run; the run continues if they cannot be written.

use std::path::{Path, PathBuf};

use super::EventWriter;
use crate::engine::progress::TrainingProgress;
use crate::error::Result;

/// Writes the event files of a run, if it has any. A failed write is a warning; the next event starts a new file, because the end
/// of the last one may be incomplete.
#[derive(Debug)]
pub struct RunEvents {
    writer: Option<(PathBuf, EventWriter)>,
    /// The last warning: a disk that stays full is reported once.
    reported: Option<String>,
}

impl RunEvents {
    /// Event files in the folder of `run`, for a process whose first step is `first_step`; none if `run` is `None`.
    pub(crate) fn new(run: Option<&Path>, first_step: u64) -> Self {
        let folder = run.map(|run| run.join("tensorboard"));
        Self { writer: folder.map(|folder| (folder.clone(), EventWriter::new(&folder, first_step))), reported: None }
    }

    /// Lets `write` write the events of `step`.
    pub fn write(&mut self, step: u64, progress: &mut dyn TrainingProgress, write: impl FnOnce(&mut EventWriter) -> Result<()>) {
        let Some((folder, writer)) = &mut self.writer else { return };
        let Err(e) = write(writer) else { return };
        *writer = EventWriter::new(folder, step + 1);
        let what = format!("TensorBoard's event file cannot be written, and the run continues without it: {e}");
        if self.reported.as_ref() != Some(&what) {
            progress.warning(&what);
            self.reported = Some(what);
        }
    }
}
