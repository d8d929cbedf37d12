//! The folder of a run's checkpoints, for readers: one folder per checkpoint, and the newest one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::weights::refuse;
use crate::{Error, Result};

/// The file that every checkpoint has; it is written last.
pub const STATE_FILE: &str = "state.toml";

/// `<run>/checkpoints`: one folder per checkpoint, named by its step (`0000100`).
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    path: PathBuf,
}

impl CheckpointFolder {
    /// The checkpoints of the run in `run`. Reads nothing.
    pub fn of_run(run: &Path) -> Self {
        Self { path: run.join("checkpoints") }
    }

    /// `<run>/checkpoints`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the checkpoint of `step`, whether it exists or not.
    pub fn of_step(&self, step: u64) -> PathBuf {
        self.path.join(format!("{step:07}"))
    }

    /// All complete checkpoints, oldest first: step and folder. Other files in the folder are ignored.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = self.numbered()?;
        found.retain(|(_, path)| path.join(STATE_FILE).is_file());
        Ok(found)
    }

    /// All folders named like a checkpoint, oldest first.
    fn numbered(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for path in self.entries()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let (true, Ok(step)) = (name.bytes().all(|b| b.is_ascii_digit()), name.parse())
                && path.is_dir()
            {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read, or a newer checkpoint is incomplete.
    pub fn latest(&self) -> Result<Option<PathBuf>> {
        let newest = self.list()?.pop();
        // A checkpoint gets its name when it is complete, so one without this file was damaged later. Falling back silently would
        // be wrong.
        let all = self.numbered()?;
        if let Some((_, path)) = all.last().filter(|(step, _)| newest.as_ref().is_none_or(|(whole, _)| step > whole)) {
            let what = format!("the newest checkpoint has no {STATE_FILE}; {}", self.way_on_without(path)?);
            return Err(refuse(path, what).into());
        }
        Ok(newest.map(|(_, path)| path))
    }

    /// The end of an error message: what to do if the checkpoint at `path` cannot be used.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read.
    pub fn way_on_without(&self, path: &Path) -> Result<String> {
        let before = self.list()?.into_iter().map(|(_, other)| other).rfind(|other| other != path);
        Ok(match before {
            Some(before) => format!("remove the folder {} to resume from the one before, {}", path.display(), before.display()),
            None => format!("there is no other one: remove the folder {} to begin anew", path.display()),
        })
    }

    /// Everything in the folder, sorted; empty if the folder does not exist.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read.
    pub fn entries(&self) -> Result<Vec<PathBuf>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        let mut paths = entries.map(|e| Ok(e.map_err(Error::io(&self.path))?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }
}
