//! The folder of a run's checkpoints: writes each atomically and removes the oldest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use latte_model::checkpoint::CheckpointFolder;

use crate::error::{Error, Result};

/// The prefix of the names of unfinished folders.
const UNFINISHED: &str = ".unfinished-";

/// Removes unfinished folders of killed processes.
pub(crate) fn remove_unfinished(folder: &CheckpointFolder) -> Result<()> {
    for path in folder.entries()? {
        if path.file_name().unwrap_or_default().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Lets `write` fill a temporary folder, forces it to disk, and only then gives it its name.
pub(crate) fn write(folder: &CheckpointFolder, step: u64, write: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let target = folder.of_step(step);
    let temporary = folder.path().join(format!("{UNFINISHED}{step:07}"));
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
    let aside = folder.path().join(format!("{UNFINISHED}replaced-{step:07}"));
    let replaces = target.exists();
    if replaces {
        fs::rename(&target, &aside).map_err(Error::io(&target))?;
    }
    fs::rename(&temporary, &target).map_err(Error::io(&target))?;
    sync(folder.path())?;
    if replaces {
        fs::remove_dir_all(&aside).map_err(Error::io(&aside))?;
    }
    Ok(target)
}

/// Removes the oldest checkpoints until `keep` are left. The newest is never removed.
pub(crate) fn prune(folder: &CheckpointFolder, keep: usize) -> Result<()> {
    let all = folder.list()?;
    for (_, path) in &all[..all.len().saturating_sub(keep.max(1))] {
        // First the name, then the contents: a kill in between leaves no checkpoint that looks whole.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = folder.path().join(format!("{UNFINISHED}removed-{name}"));
        fs::rename(path, &aside).map_err(Error::io(path))?;
        fs::remove_dir_all(&aside).map_err(Error::io(&aside))?;
    }
    Ok(())
}

/// Waits until a file or folder is written to disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    // Windows opens no folders as files; there a rename is as durable as it gets.
    if cfg!(windows) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use latte_model::checkpoint::STATE_FILE;

    use super::*;

    fn save(folder: &CheckpointFolder, step: u64, text: &str) -> PathBuf {
        write(folder, step, |dir| fs::write(dir.join(STATE_FILE), text).map_err(Error::io(dir))).unwrap()
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
        prune(&folder, 2).unwrap();
        assert_eq!(steps(&folder), [200, 10_000_000]);
        prune(&folder, 0).unwrap();
        assert_eq!(steps(&folder), [10_000_000]);
        assert_eq!(folder.entries().unwrap().len(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_checkpoint_alone_and_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of_run(dir.path());
        save(&folder, 1, "old");
        for step in [1, 2] {
            let failed = write(&folder, step, |dir| {
                fs::write(dir.join(STATE_FILE), "half").map_err(Error::io(dir))?;
                Err(Error::checkpoint(dir, "disk full"))
            });
            assert!(failed.is_err());
        }
        assert_eq!(steps(&folder), [1]);
        assert_eq!(fs::read_to_string(folder.of_step(1).join(STATE_FILE)).unwrap(), "old");
        remove_unfinished(&folder).unwrap();
        assert_eq!(folder.entries().unwrap(), [folder.of_step(1)]);
        save(&folder, 1, "new");
        assert_eq!(fs::read_to_string(folder.of_step(1).join(STATE_FILE)).unwrap(), "new");
        assert_eq!(folder.entries().unwrap().len(), 1);
    }
}
