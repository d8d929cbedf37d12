//! Checks outputs before any work, so that a run does not end with "no such folder", and reports results that got other names or
//! were compressed more than usual.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use latte_video::encode::Mp4Options;
use latte_video::results::{Coarse, Renamed, ResultFolder};

use crate::failure::bad_input;
use crate::terminal::note;

/// The probe that is written to test a folder: more than a full disk would accept.
const PROBE: [u8; 4096] = [0; 4096];

/// Creates the folder of the file `path` if it is missing, and tests that a file can be written there. `what` begins the error
/// message: the option with the path, such as `--json`.
///
/// # Errors
///
/// If no file can be written there.
pub(crate) fn check_output_file(what: &str, path: &Path) -> anyhow::Result<()> {
    let refuse = |why: String| Err(bad_input(format!("{what} {}: {why}", path.display())));
    if path.as_os_str().is_empty() || path.file_name().is_none() {
        return refuse("expected the name of a file".into());
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return refuse("this is a folder; expected the name of a file".into()),
        // A device or a pipe is written directly.
        Ok(found) if !found.is_file() => return Ok(()),
        _ => {}
    }
    let folder = folder_of(path);
    let tried = fs::create_dir_all(folder).and_then(|()| try_writing(folder));
    tried.or_else(|e| refuse(format!("no file can be written to the folder {} ({e}); name another place", shown(folder))))
}

/// Tests that the folder `path` exists or can be created, and that files can be written into it. It leaves no new folder behind.
///
/// # Errors
///
/// If no file can be written there.
pub(crate) fn check_output_folder(what: &str, path: &Path) -> anyhow::Result<()> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .filter(|folder| !folder.as_os_str().is_empty())
        .take_while(|folder| !folder.exists())
        .map(Into::into)
        .collect();
    let tried = fs::create_dir_all(path).and_then(|()| try_writing(path));
    // Only empty folders are removed: files of other processes stay.
    for folder in &missing {
        let _ = fs::remove_dir(folder);
    }
    tried.map_err(|e| {
        let why = if path.exists() && !path.is_dir() { "this is a file; expected a folder".into() } else { e.to_string() };
        bad_input(format!("{what} {}: cannot be written to: {why}; name another folder", path.display()))
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn shown(folder: &Path) -> String {
    if folder == Path::new(".") { "that the program runs in".into() } else { folder.display().to_string() }
}

/// Writes and removes a small file, because permissions are not enough (a disk may be full or mounted read-only).
fn try_writing(folder: &Path) -> std::io::Result<()> {
    for number in 0.. {
        let path = folder.join(format!(".latte-{}-{number}.tmp", std::process::id()));
        match fs::File::create_new(&path) {
            Ok(mut file) => {
                let written = file.write_all(&PROBE).and_then(|()| file.sync_all());
                return written.and(fs::remove_file(&path));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists && number < 100 => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reports unusual results of a folder: other names, more compression.
pub(crate) fn tell(results: &ResultFolder, how: &str) {
    let lines = about_renamed(results.renamed(), how).into_iter().chain(results.coarse().iter().map(about_coarse));
    for line in lines {
        note(&line);
    }
}

fn about_coarse(Coarse { path, quantiser }: &Coarse) -> String {
    let usual = Mp4Options::default().quantiser;
    format!(
        "{}: compressed more than usual (quantiser {quantiser} instead of {usual}), because noise needs more bits than the encoder may use \
         for; gif and png frames are not compressed like that",
        path.display()
    )
}

/// A line about results that got other names, if any. `how` says how to replace the others.
fn about_renamed(renamed: &[Renamed], how: &str) -> Option<String> {
    const LISTED: usize = 4;
    match renamed {
        [] => None,
        [one] => Some(format!("{} is another result and is kept; the new one is {}{how}", one.kept.display(), one.new.display())),
        several => {
            let names: Vec<String> = several.iter().take(LISTED).map(|one| one.new.display().to_string()).collect();
            let more = if several.len() > LISTED { ", …" } else { "" };
            Some(format!(
                "{} files of these names are other results and are kept; the new ones are {}{more}{how}",
                several.len(),
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(checked: anyhow::Result<()>) -> String {
        checked.unwrap_err().to_string()
    }

    #[test]
    fn a_files_folder_is_made_and_nothing_else_is_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/x.json");
        check_output_file("--json", &path).unwrap();
        assert!(path.parent().unwrap().read_dir().unwrap().next().is_none());
        fs::write(&path, "before").unwrap();
        check_output_file("--json", &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        let below = path.join("y.json");
        let found = said(check_output_file("--json", &below));
        assert!(found.starts_with("--json ") && found.contains("y.json") && found.contains("name another place"), "{found}");
        assert!(said(check_output_file("--json", place.path())).contains("this is a folder"));
        assert!(said(check_output_file("--json", Path::new(""))).contains("expected the name of a file"));
    }

    #[test]
    fn a_folder_is_tried_and_not_made() {
        let place = tempfile::tempdir().unwrap();
        check_output_folder("--out", &place.path().join("a/b")).unwrap();
        check_output_folder("--out", place.path()).unwrap();
        assert!(place.path().read_dir().unwrap().next().is_none());
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(said(check_output_folder("--out", &file)).contains("this is a file; expected a folder"));
        assert!(said(check_output_folder("--out", &file.join("a"))).contains("name another folder"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_ordinary_file_needs_no_folder_that_can_be_written() {
        check_output_file("--json", Path::new("/dev/null")).unwrap();
        assert!(said(check_output_file("--json", Path::new("/proc/latte/x.json"))).contains("/proc/latte"));
        assert!(said(check_output_folder("--out", Path::new("/proc/latte"))).contains("cannot be written to"));
    }

    #[test]
    fn folders_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        fs::create_dir(dir.path().join("closed")).unwrap();
        let mut folders = vec![file.clone(), file.join("below"), "/proc/none".into(), "/dev/null/none".into()];
        // Dangling links can be neither created nor followed.
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("gone/away"), dir.path().join("link")).unwrap();
            folders.push(dir.path().join("link"));
        }
        for folder in folders {
            let error = check_output_folder("--out", &folder).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains(&folder.display().to_string())), "{}: {error:?}", folder.display());
        }
    }

    #[test]
    fn what_was_kept_is_one_line() {
        let renamed = |n: usize| Renamed { kept: "o/a.mp4".into(), new: format!("o/a-{n}.mp4").into() };
        assert_eq!(about_renamed(&[], ""), None);
        let one = about_renamed(&[renamed(2)], " (--overwrite)").unwrap();
        assert_eq!(one, "o/a.mp4 is another result and is kept; the new one is o/a-2.mp4 (--overwrite)");
        let many = about_renamed(&(2..9).map(renamed).collect::<Vec<_>>(), "").unwrap();
        assert!(many.starts_with("7 files") && many.ends_with("o/a-5.mp4, …"), "{many}");
    }
}
