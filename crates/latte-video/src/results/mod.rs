//! A folder of results: names generated files without overwriting earlier results.
//!
//! A result is a file, or several files with one name ([`Part`]s: a video and its settings). If another result has the name, it is
//! kept, and the new one is called `name-2`, `name-3`, …. Writing the same result again gives the same name: results are compared
//! by content, so no record of them is needed.

mod names;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use latte_files::UnfinishedFolder;

use crate::{Clip, Error, Result, encode};

pub use names::{class_file_name, distinct_names, prompt_file_name};

/// Writes the file; returns the quantiser if it is coarser than usual.
type Write<'a> = Box<dyn Fn(&Path) -> Result<Option<u8>> + 'a>;
type IsSame<'a> = Box<dyn Fn(&[u8], &[u8]) -> bool + 'a>;

/// One file of a result.
pub struct Part<'a> {
    /// Added to the name after a dot; empty for a folder.
    extension: &'a str,
    write: Write<'a>,
    /// Whether the bytes of two files mean the same.
    is_same: IsSame<'a>,
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("extension", &self.extension).finish_non_exhaustive()
    }
}

impl<'a> Part<'a> {
    /// A file that `write` writes.
    pub fn new(extension: &'a str, write: impl Fn(&Path) -> Result<()> + 'a) -> Self {
        Self::compressed(extension, move |path| write(path).map(|()| None))
    }

    fn compressed(extension: &'a str, write: impl Fn(&Path) -> Result<Option<u8>> + 'a) -> Self {
        Self { extension, write: Box::new(write), is_same: Box::new(|old, new| old == new) }
    }

    /// A clip as mp4.
    pub fn mp4(clip: &'a Clip) -> Self {
        Self::compressed("mp4", |path| encode::write_mp4(path, clip, &encode::Mp4Options::default()))
    }

    /// A clip as gif.
    pub fn gif(clip: &'a Clip) -> Self {
        Self::new("gif", |path| encode::write_gif(path, clip))
    }

    /// A clip as a folder of png frames.
    pub fn png_frames(clip: &'a Clip) -> Self {
        Self::new("", |path| encode::write_png_frames(path, clip))
    }

    /// RGB pixels `[height, width, 3]` as png.
    pub fn png(pixels: &'a [u8], width: usize, height: usize) -> Self {
        Self::new("png", move |path| encode::write_png(path, pixels, width, height))
    }

    /// A text file. `is_same` says whether the bytes of two files mean the same; the new text then replaces the old one.
    pub fn text(extension: &'a str, text: &'a str, is_same: impl Fn(&[u8], &[u8]) -> bool + 'a) -> Self {
        let part = Self::new(extension, |path| encode::write_atomically(path, text.as_bytes()));
        Self { is_same: Box::new(is_same), ..part }
    }

    fn path(&self, folder: &Path, name: &str) -> PathBuf {
        folder.join(if self.extension.is_empty() { name.to_string() } else { format!("{name}.{}", self.extension) })
    }
}

/// A folder for results.
#[derive(Debug)]
pub struct ResultFolder {
    folder: PathBuf,
    overwrite: bool,
    /// Names used since the folder was opened, in lower case.
    given: BTreeSet<String>,
    renamed: Vec<Renamed>,
    coarse: Vec<Coarse>,
}

/// A video that was encoded with a coarser quantiser, because its frames overflow the encoder's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coarse {
    /// Its file.
    pub path: PathBuf,
    /// Its quantiser, 0 to 51; [`encode::Mp4Options`] has the usual one.
    pub quantiser: u8,
}

/// A result whose name was already in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The file of the earlier result, which was kept.
    pub kept: PathBuf,
    /// The new result's file.
    pub new: PathBuf,
}

/// What exists at the path of a new result.
enum Place {
    Free,
    SameResult,
    OtherResult,
}

impl ResultFolder {
    /// Results in `folder`, which need not exist. With `overwrite`, earlier results with the same names are replaced.
    pub fn new(folder: &Path, overwrite: bool) -> Self {
        Self { folder: folder.to_path_buf(), overwrite, given: BTreeSet::new(), renamed: Vec::new(), coarse: Vec::new() }
    }

    /// Results that were renamed since the folder was opened.
    pub fn renamed(&self) -> &[Renamed] {
        &self.renamed
    }

    /// Videos that were encoded with a coarser quantiser since the folder was opened.
    pub fn coarse(&self) -> &[Coarse] {
        &self.coarse
    }

    /// Writes a result as `name`, or `name-2` and so on if another result has that name; returns the paths of its files. Two calls
    /// never return the same path. The files appear when they are complete.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or a folder has the name of a file.
    pub fn write(&mut self, name: &str, parts: &[Part<'_>]) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        let unfinished = UnfinishedFolder::new(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        self.write_by_way_of(unfinished.path(), name, parts)
    }

    fn write_by_way_of(&mut self, unfinished: &Path, name: &str, parts: &[Part<'_>]) -> Result<Vec<PathBuf>> {
        let mut quantisers = Vec::with_capacity(parts.len());
        for part in parts {
            let path = part.path(unfinished, name);
            quantisers.push((part.write)(&path).map_err(|e| told_of(e, &part.path(&self.folder, name)))?);
        }
        let mut number = 1;
        loop {
            let candidate = names::numbered(name, number);
            number += 1;
            if self.given.contains(&names::folded(&candidate)) {
                continue;
            }
            let pairs: Vec<(PathBuf, PathBuf)> =
                parts.iter().map(|part| (part.path(unfinished, name), part.path(&self.folder, &candidate))).collect();
            let moved = match place(parts, &pairs)? {
                Place::Free => move_to_free(&pairs)?,
                Place::SameResult => replace(&pairs).map(|()| true)?,
                Place::OtherResult if self.overwrite => replace(&pairs).map(|()| true)?,
                Place::OtherResult => false,
            };
            if moved {
                self.given.insert(names::folded(&candidate));
                let new: Vec<PathBuf> = pairs.into_iter().map(|(_, to)| to).collect();
                let coarse = new.iter().zip(quantisers);
                self.coarse
                    .extend(coarse.filter_map(|(path, quantiser)| Some(Coarse { path: path.clone(), quantiser: quantiser? })));
                if candidate != name
                    && let (Some(part), Some(new)) = (parts.first(), new.first())
                {
                    self.renamed.push(Renamed { kept: part.path(&self.folder, name), new: new.clone() });
                }
                return Ok(new);
            }
        }
    }
}

/// The same error for the final path.
fn told_of(error: Error, path: &Path) -> Error {
    match error {
        Error::Io { source, .. } => Error::io(path, source),
        Error::Encode { what, .. } => Error::encode(path, what),
        Error::Format { what, .. } => Error::format(path, what),
        other => other,
    }
}

fn place(parts: &[Part<'_>], pairs: &[(PathBuf, PathBuf)]) -> Result<Place> {
    let mut is_there = false;
    for (part, (new, old)) in parts.iter().zip(pairs) {
        let Ok(metadata) = fs::symlink_metadata(old) else { continue };
        is_there = true;
        if !part.extension.is_empty() && metadata.is_dir() {
            return Err(Error::folder(old, "is a folder, where a file is to be written; move it, or write into another folder"));
        }
        let same = if part.extension.is_empty() { same_folders(old, new) } else { same_files(old, new, &part.is_same) };
        if !same {
            return Ok(Place::OtherResult);
        }
    }
    Ok(if is_there { Place::SameResult } else { Place::Free })
}

/// Files that cannot be read count as different.
fn same_files(old: &Path, new: &Path, is_same: &dyn Fn(&[u8], &[u8]) -> bool) -> bool {
    match (fs::read(old), fs::read(new)) {
        (Ok(old), Ok(new)) => old == new || is_same(&old, &new),
        _ => false,
    }
}

fn same_folders(old: &Path, new: &Path) -> bool {
    let names = |folder: &Path| -> Option<BTreeSet<std::ffi::OsString>> {
        fs::read_dir(folder).ok()?.map(|entry| Some(entry.ok()?.file_name())).collect()
    };
    let equal = |old: &Path, new: &Path| same_files(old, new, &|_, _| false);
    match (names(old), names(new)) {
        (Some(a), Some(b)) => a == b && a.iter().all(|name| equal(&old.join(name), &new.join(name))),
        _ => false,
    }
}

/// Moves files to unused paths; `false` if another process has created one of them, which is kept.
fn move_to_free(pairs: &[(PathBuf, PathBuf)]) -> Result<bool> {
    for (index, (from, to)) in pairs.iter().enumerate() {
        // Unlike a rename, a hard link never replaces a file; a rename is the fallback for file systems without links. For folders,
        // a rename fails if the target is not empty.
        let linked = if from.is_dir() { fs::rename(from, to) } else { fs::hard_link(from, to) };
        let moved = match linked {
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(false),
            Err(_) if from.is_file() && !to.exists() => fs::rename(from, to).map(|()| true),
            other => other.map(|()| true),
        };
        match moved {
            Ok(true) => {}
            failed => {
                // Undo, so that the result is not left incomplete.
                for (from, to) in &pairs[..index] {
                    let _ = if from.exists() { fs::remove_file(to) } else { fs::rename(to, from) };
                }
                return failed.map_err(|e| Error::io(to, e));
            }
        }
    }
    Ok(true)
}

/// Replaces existing files.
fn replace(pairs: &[(PathBuf, PathBuf)]) -> Result<()> {
    // The old descriptions are removed first: a description must never lie beside a file that it does not belong to.
    for (_, to) in pairs.iter().skip(1) {
        match fs::remove_file(to) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(to, e)),
            _ => {}
        }
    }
    for (from, to) in pairs {
        if from.is_dir() && to.is_dir() {
            fs::remove_dir_all(to).map_err(|e| Error::io(to, e))?;
        }
        fs::rename(from, to).map_err(|e| Error::io(to, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn exact(a: &[u8], b: &[u8]) -> bool {
        a == b
    }

    /// A result of two files: the bytes of a video and its settings.
    fn write(results: &mut ResultFolder, name: &str, video: &str, settings: &str) -> Vec<PathBuf> {
        results.write(name, &[Part::text("mp4", video, exact), Part::text("json", settings, exact)]).unwrap()
    }

    fn clip(value: u8, frames: usize) -> Clip {
        Clip::new(vec![value; frames * 16 * 16 * 3], [frames, 16, 16, 3], 8.0).unwrap()
    }

    #[test]
    fn another_result_is_kept_and_the_same_one_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let open = |overwrite| ResultFolder::new(&dir.path().join("out"), overwrite);
        let out = |name: &str| dir.path().join("out").join(name);
        assert_eq!(write(&mut open(false), "a", "one", "1"), [out("a.mp4"), out("a.json")]);
        assert_eq!(write(&mut open(false), "a", "one", "1"), [out("a.mp4"), out("a.json")]);
        let mut results = open(false);
        assert_eq!(write(&mut results, "a", "two", "2"), [out("a-2.mp4"), out("a-2.json")]);
        assert_eq!(results.renamed(), [Renamed { kept: out("a.mp4"), new: out("a-2.mp4") }]);
        // The same video with other settings is another result, and so is another video with the same settings.
        assert_eq!(write(&mut open(false), "a", "one", "3")[0], out("a-3.mp4"));
        assert_eq!(write(&mut open(false), "a", "four", "1")[0], out("a-4.mp4"));
        assert_eq!(write(&mut open(false), "a", "two", "2")[0], out("a-2.mp4"));
        // A file of another kind with the same settings lies beside it; with other settings, it must not replace them.
        let png = |settings: &str| {
            open(false).write("a", &[Part::text("png", "p", exact), Part::text("json", settings, exact)]).unwrap()[0].clone()
        };
        assert_eq!((png("1"), png("5")), (out("a.png"), out("a-5.png")));
        let mut results = open(true);
        assert_eq!(write(&mut results, "a", "six", "6"), [out("a.mp4"), out("a.json")]);
        assert!(results.renamed().is_empty());
        assert_eq!(fs::read_to_string(out("a.json")).unwrap(), "6");
        assert!(listed(&dir.path().join("out")).iter().all(|name| name.starts_with('a')), "nothing unfinished is left");
    }

    #[test]
    fn texts_that_mean_the_same_are_the_same_result() {
        let dir = tempfile::tempdir().unwrap();
        let same_length = |a: &[u8], b: &[u8]| a.len() == b.len();
        let write =
            |text: &str| ResultFolder::new(dir.path(), false).write("a", &[Part::text("json", text, same_length)]).unwrap();
        assert_eq!((write("one"), write("two")), (vec![dir.path().join("a.json")], vec![dir.path().join("a.json")]));
        assert_eq!(fs::read_to_string(dir.path().join("a.json")).unwrap(), "two");
        assert_eq!(write("three"), [dir.path().join("a-2.json")]);
    }

    #[test]
    fn clips_of_all_kinds_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let parts: [fn(&Clip) -> Part<'_>; 3] = [|clip| Part::mp4(clip), |clip| Part::gif(clip), |clip| Part::png_frames(clip)];
        for part in parts {
            let write = |clip: &Clip| ResultFolder::new(dir.path(), false).write("a", &[part(clip)]).unwrap().remove(0);
            let (long, short) = (write(&clip(9, 3)), write(&clip(9, 2)));
            assert_ne!(long, short);
            assert_eq!((write(&clip(9, 3)), write(&clip(9, 2))), (long, short));
        }
        assert_eq!(listed(dir.path()), ["a", "a-2", "a-2.gif", "a-2.mp4", "a.gif", "a.mp4"]);
        assert_eq!(listed(&dir.path().join("a")).len(), 3);
        ResultFolder::new(dir.path(), true).write("a", &[Part::png_frames(&clip(1, 1))]).unwrap();
        assert_eq!(listed(&dir.path().join("a")), ["00000.png"], "frames of the replaced clip are gone");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a.mp4")).unwrap();
        let mut results = ResultFolder::new(dir.path(), false);
        let error = results.write("a", &[Part::text("mp4", "x", exact)]).unwrap_err().to_string();
        assert!(error.contains("a.mp4: is a folder"), "{error}");
        let failing = Part::new("json", |path| Err(Error::encode(path, "no")));
        let error = results.write("b", &[Part::text("mp4", "x", exact), failing]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", dir.path().join("b.json").display())), "{error}");
        assert_eq!(listed(dir.path()), ["a.mp4"]);
    }

    #[test]
    fn two_processes_never_take_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let description = (dir.path().join("from.json"), dir.path().join("to.json"));
        for path in [&from, &description.0, &description.1] {
            fs::write(path, path.display().to_string()).unwrap();
        }
        // Another process has created the description already: the first file is moved back.
        assert!(!move_to_free(&[(from.clone(), to.clone()), description.clone()]).unwrap());
        assert!(from.exists() && !to.exists());
        assert_eq!(fs::read_to_string(&description.1).unwrap(), description.1.display().to_string());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// For any order of writes and calls, everything ever written exists under some name, the paths of one call are distinct,
        /// and no result exists twice.
        #[test]
        fn no_result_is_lost(runs in prop::collection::vec(prop::collection::vec(("[ab]", 0_u8..4), 1..5), 1..6)) {
            let dir = tempfile::tempdir().unwrap();
            let mut all = BTreeSet::new();
            for run in runs {
                let mut results = ResultFolder::new(dir.path(), false);
                let mut paths = BTreeSet::new();
                let run: BTreeSet<(String, u8)> = run.into_iter().collect();
                for (name, settings) in &run {
                    let (video, settings) = (format!("video {name} {settings}"), format!("settings {name} {settings}"));
                    let written = write(&mut results, name, &video, &settings);
                    prop_assert!(paths.insert(names::folded(&written[0].to_string_lossy())));
                    all.insert((video, settings));
                }
            }
            let read = |path: &Path| fs::read_to_string(path).unwrap();
            let videos: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            let videos: Vec<(String, String)> = videos
                .iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "mp4"))
                .map(|path| (read(path), read(&path.with_extension("json"))))
                .collect();
            prop_assert_eq!(videos.iter().cloned().collect::<BTreeSet<_>>(), all);
            prop_assert_eq!(videos.len(), videos.iter().collect::<BTreeSet<_>>().len());
        }
    }
}
