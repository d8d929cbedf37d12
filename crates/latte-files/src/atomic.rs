//! Atomic writing of single files.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Suffix of the names of unfinished files.
const ENDING: &str = ".tmp";
/// A killed process left an unfinished file if it was not written to for this long.
const ABANDONED: Duration = Duration::from_hours(24);

/// A unique name beside `path`: processes on several machines may write the same file into one folder at the same time.
pub fn temporary_beside(path: &Path) -> PathBuf {
    // Process ids repeat in containers, so the name also has a random number.
    let random = RandomState::new().hash_one(std::process::id());
    path.with_file_name(format!("{}{}-{random:016x}{ENDING}", prefix(path), std::process::id()))
}

/// Prefix of the names of all unfinished files for `path`.
fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Writes `bytes` to a temporary file, syncs it to disk, then renames it to `path`. Special files, such as devices and pipes, are
/// written directly.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return File::options().write(true).open(path).and_then(|mut file| file.write_all(bytes));
    }
    write_renamed(path, |e| e, |file| file.write_all(bytes))
}

/// Writes `bytes` to a temporary file, then renames it. Unlike [`write_atomically`], it neither syncs to disk nor removes files
/// that killed processes left: for the frames of a video, which are many and can be generated again.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Calls `write` to fill a temporary file, syncs it to disk, then renames it to `path`. `failed` converts system errors into the
/// caller's error with the name `path`: the user does not know the temporary name.
///
/// # Errors
///
/// If `write` fails, or the file cannot be written.
pub fn write_renamed<E>(
    path: &Path,
    failed: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    remove_abandoned(path);
    let temporary = temporary_beside(path);
    let mut file = File::create_new(&temporary).map_err(&failed)?;
    let written = write(&mut file).and_then(|()| file.sync_all().map_err(&failed));
    drop(file);
    let renamed = written.and_then(|()| fs::rename(&temporary, path).map_err(&failed));
    if renamed.is_err() {
        // A failure to remove the incomplete file does no harm.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Removes old unfinished files that killed processes left for `path`. A failure does no harm.
fn remove_abandoned(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (prefix, now) = (prefix(path), SystemTime::now());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with(&prefix) && name.ends_with(ENDING);
        let age = || now.duration_since(entry.metadata().ok()?.modified().ok()?).ok();
        if is_ours && age().is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn concurrent_writers_of_one_file_do_not_collide() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        assert_ne!(temporary_beside(&path), temporary_beside(&path));
        let contents: Vec<Vec<u8>> = (0..8_u8).map(|i| vec![i; 100_000 + usize::from(i)]).collect();
        std::thread::scope(|scope| {
            for bytes in &contents {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_atomically(path, bytes).unwrap()));
                scope.spawn(move || (0..20).for_each(|_| write_unsynced(path, bytes).unwrap()));
            }
        });
        assert!(contents.contains(&fs::read(&path).unwrap()));
        assert_eq!(names(folder.path()), ["x.json"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        write_atomically(&path, b"before").unwrap();
        let failed = write_renamed(
            &path,
            |e| e.to_string(),
            |file| {
                file.write_all(b"half").unwrap();
                Err("is wrong".into())
            },
        );
        assert_eq!(failed, Err("is wrong".into()));
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"before".to_vec(), vec!["x.json".to_string()]));
        assert!(write_atomically(&folder.path().join("none/x.json"), b"").is_err());
        fs::create_dir(folder.path().join("folder")).unwrap();
        for write in [write_atomically, write_unsynced] {
            assert!(write(&folder.path().join("folder"), b"").is_err(), "a folder is in its place");
            assert_eq!(names(folder.path()), ["folder", "x.json"]);
        }
    }

    #[test]
    fn only_old_unfinished_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let old = SystemTime::now() - 2 * ABANDONED;
        for (name, is_old) in [(".x.json.1-0.tmp", true), (".x.json.2-0.tmp", false), (".y.json.1-0.tmp", true)] {
            let file = File::create(folder.path().join(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        write_atomically(&path, b"new").unwrap();
        assert_eq!(names(folder.path()), [".x.json.2-0.tmp", ".y.json.1-0.tmp", "x.json"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_directly() {
        write_atomically(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
