//! Scans every video of a data set on many threads and stores the results in an index.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::index::Probe;
use super::{Dataset, Index, IndexEntry, Item, Location, Signature, Skipped};
use latte_progress::{Progress, Stage};

use crate::{Decoder, Error, Result, Video};

/// Options of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// The decoder that opens the files.
    pub decoder: Decoder,
    /// Hash the contents, which reads every byte.
    pub hash: bool,
    /// Also decode the last frame, which finds files that are cut off.
    pub last_frame: bool,
    /// Number of threads, at least one.
    pub threads: usize,
}

/// The result of a scan.
#[derive(Debug)]
pub struct Scan {
    /// The new index.
    pub index: Index,
    /// Number of videos that were opened; the others were known and unchanged.
    pub opened: usize,
    /// What was skipped in a manifest or in shards.
    pub skipped: Skipped,
}

/// Scans all videos of a data set; opens those that are new or changed against `known`.
///
/// # Errors
///
/// If the data set cannot be listed. A video that cannot be read becomes an entry with an error.
pub fn scan(location: &Location, known: &[IndexEntry], options: ScanOptions, progress: &mut dyn Progress) -> Result<Scan> {
    scan_into(&mut |_| Ok(()), location, known, options, progress)
}

/// As [`scan`]; calls `opened` with each new entry, and ends with its error if it returns one.
fn scan_into(
    opened: &mut dyn FnMut(&IndexEntry) -> Result<()>,
    location: &Location,
    known: &[IndexEntry],
    options: ScanOptions,
    progress: &mut dyn Progress,
) -> Result<Scan> {
    let (Dataset { items, classes, .. }, skipped) = location.list()?;
    let base = location.base();
    let known: BTreeMap<&str, &IndexEntry> = known.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let mut entries: Vec<Option<IndexEntry>> = vec![None; items.len()];
    let (mut done, mut num_opened) = (0, 0);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..options.threads.max(1) {
            let (sender, items, known, next, stop) = (sender.clone(), &items, &known, &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let old = known.get(item.name.as_str()).copied();
                    // Sending fails only after an error has ended the scan; the result is not needed then.
                    let _ = sender.send((at, look(IndexEntry::of(item, base), item, old, options)));
                }
            });
        }
        drop(sender);
        for (at, (entry, is_new)) in receiver {
            done += 1;
            num_opened += usize::from(is_new);
            let kept = if is_new { opened(&entry) } else { Ok(()) };
            entries[at] = Some(entry);
            if kept.is_err() {
                stop.store(true, Ordering::Relaxed);
                return kept;
            }
            progress.stage(Stage::ReadingVideos, done, items.len() as u64);
        }
        Ok(())
    })?;
    let root = fs::canonicalize(base).map_err(|e| Error::io(base, e))?;
    let index = Index { layout: location.layout, root, classes, entries: entries.into_iter().flatten().collect() };
    Ok(Scan { index, opened: num_opened, skipped })
}

/// Creates or updates the index at `out`. An interrupted scan resumes: its results are stored beside `out` until the scan is done.
///
/// # Errors
///
/// Those of [`scan`]; or if `out` is not an index, has another layout, or cannot be written.
pub fn update_index(location: &Location, out: &Path, options: ScanOptions, progress: &mut dyn Progress) -> Result<Scan> {
    let layout = location.layout;
    let mut known = Vec::new();
    if out.exists() {
        let old = Index::read(out)?;
        if old.layout != layout {
            let what = format!("an index of the layout `{}`, not `{layout}`; write to another file, or remove it", old.layout);
            return Err(Error::folder(out, what));
        }
        known = old.entries;
    }
    let partial = partial_path(out);
    let mut log = PartialIndex::open(&partial, location, &mut known)?;
    let scan = scan_into(&mut |entry| log.append(entry), location, &known, options, progress)?;
    scan.index.write(out)?;
    fs::remove_file(&partial).map_err(|e| Error::io(&partial, e))?;
    Ok(scan)
}

fn partial_path(out: &Path) -> PathBuf {
    out.with_file_name(format!(".{}.partial", out.file_name().unwrap_or_default().to_string_lossy()))
}

/// Stores entries as they arrive, so that an interrupted scan can resume.
#[derive(Debug)]
struct PartialIndex {
    path: PathBuf,
    file: File,
}

impl PartialIndex {
    /// Adds the entries of an interrupted scan to `known` and starts the file again with them.
    fn open(path: &Path, location: &Location, known: &mut Vec<IndexEntry>) -> Result<Self> {
        let layout = location.layout;
        let left = Index::read_partial(path).filter(|old| old.layout == layout);
        let mut bytes =
            Index { layout, root: location.base().to_path_buf(), classes: Vec::new(), entries: Vec::new() }.header_line()?;
        bytes.push('\n');
        for entry in left.into_iter().flat_map(|old| old.entries) {
            // Without labels: the classes are known only at the end of the scan.
            bytes += &IndexEntry { label: None, ..entry.clone() }.line()?;
            bytes.push('\n');
            known.push(entry);
        }
        crate::encode::write_atomically(path, bytes.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(|e| Error::io(path, e))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    fn append(&mut self, entry: &IndexEntry) -> Result<()> {
        let line = IndexEntry { label: None, ..entry.clone() }.line()? + "\n";
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }
}

/// Fills in `entry`, which has what is known without opening `item`; also returns whether the video was opened.
fn look(mut entry: IndexEntry, item: &Item, old: Option<&IndexEntry>, options: ScanOptions) -> (IndexEntry, bool) {
    let path = item.place.path();
    match Signature::of(path) {
        Ok(signature) => entry.signature = signature,
        Err(e) => {
            entry.error = Some(e.to_string());
            return (entry, true);
        }
    }
    // A video that could not be read is tried again: perhaps a decoder has been installed since.
    if let Some(old) = old
        && old.signature == entry.signature
        && old.error.is_none()
        && old.place == entry.place
        && (old.hash.is_some() || !options.hash)
    {
        return (IndexEntry { video: old.video.clone(), hash: old.hash.clone(), ..entry }, false);
    }
    match probe(item, options) {
        Ok((video, hash)) => (entry.video, entry.hash) = (Some(video), hash),
        Err(e) => entry.error = Some(e.to_string()),
    }
    (entry, true)
}

fn probe(item: &Item, options: ScanOptions) -> Result<(Probe, Option<String>)> {
    let video = Video::open_media(&item.place, options.decoder)?;
    if options.last_frame {
        video.frames(&[video.info().num_frames.saturating_sub(1)])?;
    }
    let hash = options.hash.then(|| item.place.content_hash()).transpose()?;
    Ok((Probe::of(video.info()), hash))
}
