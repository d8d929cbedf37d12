//! Folders for unfinished files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Prefix of the folder names; the process id follows.
const PREFIX: &str = ".unfinished-";

/// A folder `.unfinished-PID` inside another one, for files that are moved when they are complete. It is removed when this value is
/// dropped; the next process that uses the same place removes what a killed process left.
#[derive(Debug)]
pub struct UnfinishedFolder {
    path: PathBuf,
    /// Locked while the folder is in use, so that processes in other containers, which may have the same id, leave it alone.
    _lock: Option<File>,
}

impl UnfinishedFolder {
    /// Creates the folder in `place`, which must exist.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn new(place: &Path) -> io::Result<Self> {
        remove_left_behind(place);
        let path = place.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self { _lock: lock(&path).ok(), path })
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        // A failure to remove it does no harm.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of processes that have ended.
fn remove_left_behind(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|number| number.parse::<u32>().ok());
        // Other folders are named after step numbers with leading zeros.
        let number = number.filter(|number| name == *format!("{PREFIX}{number}"));
        if number.is_some_and(is_gone) && lock(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether certainly no process with this id exists on this machine.
#[cfg(target_os = "linux")]
fn is_gone(process: u32) -> bool {
    let of = |process: u32| Path::new("/proc").join(process.to_string()).try_exists();
    // If our own id is visible, process ids are visible here.
    of(std::process::id()).is_ok_and(|seen| seen) && of(process).is_ok_and(|seen| !seen)
}

/// Only implemented for Linux.
#[cfg(not(target_os = "linux"))]
fn is_gone(_: u32) -> bool {
    false
}

/// Locks a folder; the system releases the lock when the process ends for any reason.
///
/// # Errors
///
/// If it is already locked, or the file system does not support locking folders.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    file.try_lock()?;
    Ok(file)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::Command;

    use super::*;

    fn folder_of(place: &Path, process: u32) -> PathBuf {
        let folder = place.join(format!("{PREFIX}{process}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("half.mp4"), b"half").unwrap();
        folder
    }

    #[test]
    fn folders_of_killed_processes_are_removed_and_those_of_running_ones_stay() {
        let place = tempfile::tempdir().unwrap();
        let mut running = Command::new("sleep").arg("600").spawn().unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let [of_running, of_gone] = [running.id(), gone.id()].map(|process| folder_of(place.path(), process));
        let named_otherwise = place.path().join(".unfinished-0000020");
        fs::create_dir(&named_otherwise).unwrap();
        fs::write(place.path().join(".unfinished-x"), b"").unwrap();
        let own = UnfinishedFolder::new(place.path()).unwrap();
        assert!(own.path().is_dir() && of_running.join("half.mp4").is_file() && !of_gone.exists());
        running.kill().unwrap();
        running.wait().unwrap();
        let again = UnfinishedFolder::new(place.path()).unwrap();
        assert!(!of_running.exists());
        drop((own, again));
        let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".unfinished-0000020", ".unfinished-x"]);
    }

    #[test]
    fn a_folder_that_is_locked_stays() {
        let place = tempfile::tempdir().unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let folder = folder_of(place.path(), gone.id());
        let locked = lock(&folder).unwrap();
        remove_left_behind(place.path());
        assert!(folder.exists(), "it may belong to a process in another container");
        drop(locked);
        remove_left_behind(place.path());
        assert!(!folder.exists());
    }
}
