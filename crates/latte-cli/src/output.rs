//! Where commands write: looked at before any work, and what to say of results that have other names than they were to have.

use std::fs;
use std::io::Write;
use std::path::Path;

use latte_video::results::Renamed;

use crate::failure::bad_input;

/// As much as is written to see whether a folder takes something: more than a full disk would.
const PROBE: [u8; 4096] = [0; 4096];

/// Makes the folder, and writes and removes a small file in it.
///
/// # Errors
///
/// If that cannot be done; then the work need not be begun.
pub(crate) fn check_output_folder(folder: &Path) -> anyhow::Result<()> {
    let refused = |e: std::io::Error| {
        let what = if folder.exists() && !folder.is_dir() { "is a file, expected a folder".into() } else { e.to_string() };
        bad_input(format!("{}: cannot be written to: {what}; name another folder", folder.display()))
    };
    fs::create_dir_all(folder).map_err(refused)?;
    let probe = folder.join(format!(".latte-probe-{}", std::process::id()));
    let written = fs::File::create(&probe).and_then(|mut file| file.write_all(&PROBE).and_then(|()| file.sync_all()));
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(refused)
}

/// A line about results that have other names than they were to have, if there are any. `how` says how the others would be replaced.
pub(crate) fn about_renamed(renamed: &[Renamed], how: &str) -> Option<String> {
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

    #[test]
    fn folders_are_made_and_left_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        check_output_folder(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn folders_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        fs::create_dir(dir.path().join("closed")).unwrap();
        let mut folders = vec![file.clone(), file.join("below"), "/proc/none".into(), "/dev/null/none".into()];
        // Links to nowhere can be neither made nor followed.
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("gone/away"), dir.path().join("link")).unwrap();
            folders.push(dir.path().join("link"));
        }
        for folder in folders {
            let error = check_output_folder(&folder).map_err(|e| e.to_string());
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
