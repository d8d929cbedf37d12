//! The folder of a run's checkpoints: written whole or not at all, the oldest removed, the newest found.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file that a checkpoint cannot be without; it is written last.
pub(crate) const STATE_FILE: &str = "state.toml";

/// What the names of unfinished folders begin with.
const UNFINISHED: &str = ".unfinished-";

/// `<run>/checkpoints`: one folder per checkpoint, named by its step (`0000100`).
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    path: PathBuf,
}

impl CheckpointFolder {
    /// The checkpoints of the run in `run`. Touches nothing.
    pub fn of_run(run: &Path) -> Self {
        Self { path: run.join("checkpoints") }
    }

    /// Where the checkpoint of `step` lies, or would lie.
    pub fn of_step(&self, step: u64) -> PathBuf {
        self.path.join(format!("{step:07}"))
    }

    /// All finished checkpoints, oldest first: step and folder. Anything else in the folder is not looked at.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = self.numbered()?;
        found.retain(|(_, path)| path.join(STATE_FILE).is_file());
        Ok(found)
    }

    /// All folders with the name of a checkpoint, oldest first.
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

    /// The newest finished checkpoint.
    ///
    /// # Errors
    ///
    /// If the folder exists and cannot be read, or a newer checkpoint is not whole.
    pub fn latest(&self) -> Result<Option<PathBuf>> {
        let newest = self.list()?.pop();
        // A checkpoint gets its name when it is whole: one without that file has lost it. To go back silently would be wrong.
        let all = self.numbered()?;
        if let Some((_, path)) = all.last().filter(|(step, _)| newest.as_ref().is_none_or(|(whole, _)| step > whole)) {
            let what = format!("the newest checkpoint has no {STATE_FILE}; {}", self.way_on_without(path)?);
            return Err(Error::checkpoint(path, what));
        }
        Ok(newest.map(|(_, path)| path))
    }

    /// What to do where the checkpoint at `path` is of no use: the end of a message.
    pub(crate) fn way_on_without(&self, path: &Path) -> Result<String> {
        let before = self.list()?.into_iter().map(|(_, other)| other).rfind(|other| other != path);
        Ok(match before {
            Some(before) => format!("remove the folder {} to go on from the one before, {}", path.display(), before.display()),
            None => format!("there is no other one: remove the folder {} to begin anew", path.display()),
        })
    }

    /// Removes what a killed process left half-written.
    pub(crate) fn remove_unfinished(&self) -> Result<()> {
        for path in self.entries()? {
            if path.file_name().unwrap_or_default().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }

    /// Lets `write` fill a temporary folder, forces it to disk, and only then gives it its name.
    pub(crate) fn write(&self, step: u64, write: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let target = self.of_step(step);
        let temporary = self.path.join(format!("{UNFINISHED}{step:07}"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?;
        }
        fs::create_dir_all(&temporary).map_err(Error::io(&temporary))?;
        write(&temporary)?;
        for entry in fs::read_dir(&temporary).map_err(Error::io(&temporary))? {
            let path = entry.map_err(Error::io(&temporary))?.path();
            sync(&path)?;
        }
        sync(&temporary)?;
        // The same step again, after a resume from an older checkpoint: the old one makes room, and goes only afterwards.
        let aside = self.path.join(format!("{UNFINISHED}replaced-{step:07}"));
        let replaces = target.exists();
        if replaces {
            fs::rename(&target, &aside).map_err(Error::io(&target))?;
        }
        fs::rename(&temporary, &target).map_err(Error::io(&target))?;
        sync(&self.path)?;
        if replaces {
            fs::remove_dir_all(&aside).map_err(Error::io(&aside))?;
        }
        Ok(target)
    }

    /// Removes the oldest checkpoints until `keep` are left. The newest is never removed.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let all = self.list()?;
        for (_, path) in &all[..all.len().saturating_sub(keep.max(1))] {
            // First the name, then the contents: a kill in between leaves no checkpoint that looks whole.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let aside = self.path.join(format!("{UNFINISHED}removed-{name}"));
            fs::rename(path, &aside).map_err(Error::io(path))?;
            fs::remove_dir_all(&aside).map_err(Error::io(&aside))?;
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        let mut paths = entries.map(|e| Ok(e.map_err(Error::io(&self.path))?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }
}

/// Waits until a file or folder is on disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    // Windows opens no folders as files; there a rename is as durable as it gets.
    if cfg!(windows) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &CheckpointFolder, step: u64, text: &str) -> PathBuf {
        folder.write(step, |dir| fs::write(dir.join(STATE_FILE), text).map_err(Error::io(dir))).unwrap()
    }

    fn steps(folder: &CheckpointFolder) -> Vec<u64> {
        folder.list().unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn the_newest_is_found_by_number_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of_run(dir.path());
        assert_eq!(folder.latest().unwrap(), None);
        for step in [5, 99, 10_000_000, 200] {
            save(&folder, step, "x");
        }
        assert_eq!(steps(&folder), [5, 99, 200, 10_000_000]);
        assert_eq!(folder.latest().unwrap().unwrap(), folder.of_step(10_000_000));
        folder.prune(2).unwrap();
        assert_eq!(steps(&folder), [200, 10_000_000]);
        folder.prune(0).unwrap();
        assert_eq!(steps(&folder), [10_000_000]);
        assert_eq!(folder.entries().unwrap().len(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_checkpoint_alone_and_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of_run(dir.path());
        save(&folder, 1, "old");
        for step in [1, 2] {
            let failed = folder.write(step, |dir| {
                fs::write(dir.join(STATE_FILE), "half").map_err(Error::io(dir))?;
                Err(Error::checkpoint(dir, "disk full"))
            });
            assert!(failed.is_err());
        }
        assert_eq!(steps(&folder), [1]);
        assert_eq!(fs::read_to_string(folder.of_step(1).join(STATE_FILE)).unwrap(), "old");
        folder.remove_unfinished().unwrap();
        assert_eq!(folder.entries().unwrap(), [folder.of_step(1)]);
        save(&folder, 1, "new");
        assert_eq!(fs::read_to_string(folder.of_step(1).join(STATE_FILE)).unwrap(), "new");
        assert_eq!(folder.entries().unwrap().len(), 1);
    }
}
