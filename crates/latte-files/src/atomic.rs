//! Single files.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What the names of unfinished files end with.
const ENDING: &str = ".tmp";
/// An unfinished file that was not written to for this long was left by a killed process.
const ABANDONED: Duration = Duration::from_hours(24);

/// A name beside `path` that no other file has: processes on several machines may write the same file into one folder at once.
pub fn temporary_beside(path: &Path) -> PathBuf {
    // Containers have the same process ids; each of these states is random.
    let random = RandomState::new().hash_one(std::process::id());
    path.with_file_name(format!("{}{}-{random:016x}{ENDING}", prefix(path), std::process::id()))
}

/// What the names of all unfinished files of `path` begin with.
fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Writes `bytes` under another name, brings them to the disk, then renames. What is no ordinary file, such as a device or a pipe, is
/// written to as it is.
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

/// Writes `bytes` under another name, then renames. Unlike [`write_atomically`] it does not wait for the disk, nor look for what killed
/// processes left: for the frames of a video, of which there are many and which can be made again.
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

/// Lets `write` fill a file of another name, brings it to the disk, then renames. `failed` makes errors of the system those of the
/// caller, who names the file `path`: the user does not know the other name.
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
        // What is half-written is of no use; that it is gone is only tidy.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Removes what killed processes have left of `path` long ago. What cannot be removed does no harm.
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
    fn writers_of_one_file_at_once_do_not_meet() {
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
    fn a_write_that_fails_leaves_the_file_of_before() {
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
    fn only_what_was_left_long_ago_is_removed() {
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
    fn a_device_is_written_to_and_stays_one() {
        write_atomically(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
