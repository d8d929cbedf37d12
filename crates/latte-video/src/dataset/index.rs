//! The index of a data set: the metadata of every video, so that training need not open all of them.
//!
//! An index is a text file with one JSON object per line. The first line describes the data set; every other line is one video, in
//! the order of the data set:
//!
//! ```text
//! {"format":"latte-index","version":1,"layout":"ucf101","root":"/data/ucf101","classes":["ApplyEyeMakeup", …]}
//! {"name":"ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi","label":0,"bytes":357084,"modified":1360000000000000000,"video":{"frames":164,"width":320,"height":240,"fps":25.0, …},"hash":"9f86…"}
//! {"name":"ApplyEyeMakeup/cut_off.avi","label":0,"bytes":12,"modified":1360000000000000000,"error":"…"}
//! ```
//!
//! Names are relative to the root, so that the data may move. If a video is not stored at its name (manifests, where an option says
//! so, and shards), its entry has a `place`, which is relative to the root as well:
//!
//! ```text
//! {"name":"00000/000000012","place":{"archived":{"archive":"00000.tar","offset":1536,"length":91234,"name":"000000012.mp4"}}, …}
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::table::Cell;
use super::{Dataset, Item, Layout, Location, MediaLocation, json};
use crate::{Error, Result, VideoInfo, frame_folder};

const FORMAT: &str = "latte-index";
const VERSION: u32 = 1;

/// The metadata of all videos of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// The layout of the data set on disk.
    pub layout: Layout,
    /// Its root when it was scanned; for a manifest or shards, the folder that the `place` paths are relative to.
    pub root: PathBuf,
    /// The names of the classes; a label is an index into this list.
    pub classes: Vec<String>,
    /// All videos, unreadable ones included, in the order of the data set.
    pub entries: Vec<IndexEntry>,
}

/// One video of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Its name: [`Item::name`].
    pub name: String,
    /// Its location, relative to the root; `None` if that is the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<MediaLocation>,
    /// Its class, an index into [`Index::classes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u32>,
    /// Its caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Size and modification time when it was scanned.
    #[serde(flatten)]
    pub signature: Signature,
    /// Its metadata; absent if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Probe>,
    /// SHA-256 of its content in hexadecimal digits, if hashes were requested: of the file, or of all frames in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Identifies a version of a file or folder of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The size of a file in bytes; the number of frames of a folder.
    pub bytes: u64,
    /// Time of the last change, in nanoseconds since 1970; for a folder, when a frame was last added, removed or renamed.
    pub modified: u64,
}

/// The metadata of a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Number of frames.
    pub frames: usize,
    /// Width in pixels, as displayed.
    pub width: usize,
    /// Height in pixels, as displayed.
    pub height: usize,
    /// Frames per second; the average if the rate varies.
    pub fps: f64,
    /// Duration in seconds.
    pub duration: f64,
    /// The container format.
    pub container: String,
    /// The codec.
    pub codec: String,
    /// Degrees clockwise by which stored frames are turned for display.
    pub rotation: u32,
    /// Whether the durations of the frames differ.
    pub variable_frame_rate: bool,
}

/// The first line of an index.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    layout: Layout,
    root: PathBuf,
    classes: Vec<String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not an index; the message has the line number.
    pub fn read(path: &Path) -> Result<Self> {
        let text = latte_textfile::read(path).map_err(|e| Error::io(path, e))?;
        let mut lines = text.lines().enumerate();
        let mut index = Self::from_header(lines.next().map_or("", |(_, line)| line)).map_err(|what| wrong(path, 1, &what))?;
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let entry = IndexEntry::read(line).map_err(|what| wrong(path, number + 1, &what))?;
            if entry.label.is_some_and(|label| label as usize >= index.classes.len()) {
                let what = format!("label {} of only {} classes", entry.label.unwrap_or_default(), index.classes.len());
                return Err(wrong(path, number + 1, &what));
            }
            index.entries.push(entry);
        }
        Ok(index)
    }

    /// Reads what an interrupted scan left; stops at an incomplete line.
    pub(super) fn read_partial(path: &Path) -> Option<Self> {
        let text = latte_textfile::read(path).ok()?;
        let mut lines = text.lines();
        let mut index = Self::from_header(lines.next()?).ok()?;
        index.entries.extend(lines.map_while(|line| IndexEntry::read(line).ok()));
        Some(index)
    }

    fn from_header(line: &str) -> std::result::Result<Self, String> {
        let header: Header = serde_json::from_str(line).map_err(|e| e.to_string())?;
        if header.format != FORMAT || header.version != VERSION {
            return Err(format!(
                "format `{}`, version {}, where `{FORMAT}`, version {VERSION} was expected",
                header.format, header.version
            ));
        }
        Ok(Self { layout: header.layout, root: header.root, classes: header.classes, entries: Vec::new() })
    }

    /// Writes the index atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        let written = writeln!(bytes, "{}", self.header_line()?);
        written.map_err(|e| Error::io(path, e))?;
        for entry in &self.entries {
            writeln!(bytes, "{}", entry.line()?).map_err(|e| Error::io(path, e))?;
        }
        crate::encode::write_atomically(path, &bytes)
    }

    pub(super) fn header_line(&self) -> Result<String> {
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            layout: self.layout,
            // The root is only information for people, so a path that is not valid Unicode may be written lossily.
            root: PathBuf::from(self.root.to_string_lossy().into_owned()),
            classes: self.classes.clone(),
        };
        serde_json::to_string(&header).map_err(|e| Error::folder(&self.root, format!("no index can name it: {e}")))
    }

    /// The readable videos of the index as a data set whose files are at `location`.
    ///
    /// # Errors
    ///
    /// If no video can be read.
    pub fn dataset(&self, location: &Location) -> Result<Dataset> {
        let (root, base) = (&location.path, location.base());
        let items: Vec<Item> = self.entries.iter().filter_map(|entry| entry.item(base)).collect();
        if items.is_empty() {
            let said = self.entries.iter().find_map(|entry| entry.error.as_deref()).unwrap_or("it has no videos");
            let what = format!("none of the {} videos in its index can be read; the first one: {said}", self.entries.len());
            return Err(Error::folder(root, what));
        }
        Ok(Dataset { root: root.clone(), items, classes: self.classes.clone() })
    }

    /// The names of classes without any video, readable or not; class-conditional training refuses them.
    pub fn empty_classes(&self) -> Vec<&str> {
        let listed: BTreeSet<u32> = self.entries.iter().filter_map(|entry| entry.label).collect();
        (0..).zip(&self.classes).filter(|(number, _)| !listed.contains(number)).map(|(_, class)| class.as_str()).collect()
    }

    /// The signatures of all videos, by name.
    pub fn signatures(&self) -> BTreeMap<String, Signature> {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.signature)).collect()
    }
}

impl IndexEntry {
    /// The keys that are read, the fields of [`IndexEntry`].
    const KEYS: [&str; 9] = ["name", "place", "label", "caption", "bytes", "modified", "video", "hash", "error"];

    /// Parses a line. Only the known keys are parsed: other programs may add values that are not valid JSON (Python writes `NaN`).
    fn read(line: &str) -> std::result::Result<Self, String> {
        match serde_json::from_str(line) {
            Ok(entry) => Ok(entry),
            Err(e) => {
                let Ok(members) = json::members(line.as_bytes()) else { return Err(e.to_string()) };
                let mut text = Vec::new();
                for (key, value) in members.into_iter().filter(|(key, _)| Self::KEYS.contains(&key.as_str())) {
                    text.extend_from_slice(if text.is_empty() { b"{" } else { b"," });
                    text.extend_from_slice(format!("\"{key}\":").as_bytes());
                    text.extend_from_slice(value);
                    if let Cell::Unfit(what) = json::cell(value)
                        && what.ends_with("no number")
                    {
                        return Err(format!("`{key}` is {what}"));
                    }
                }
                text.push(b'}');
                // If the line has no known key, the parser's own message says more.
                serde_json::from_slice(&text).map_err(|of_known| if text.len() > 1 { of_known } else { e }.to_string())
            }
        }
    }

    pub(super) fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::folder(Path::new(&self.name), format!("no line of an index: {e}")))
    }

    /// The entry of `item`, as far as it is known without opening the video.
    pub(super) fn of(item: &Item, base: &Path) -> Self {
        let place = item.place.moved(|path| path.strip_prefix(base).unwrap_or(path).to_path_buf());
        let is_at_name = match &place {
            MediaLocation::Path(path) => path == Path::new(&item.name) || item.name == ".",
            MediaLocation::Archived { .. } => false,
        };
        Self {
            name: item.name.clone(),
            place: (!is_at_name).then_some(place),
            label: item.label,
            caption: item.caption.clone(),
            signature: Signature { bytes: 0, modified: 0 },
            video: None,
            hash: None,
            error: None,
        }
    }

    /// The location of the video if `base` is the root of the data set.
    pub(super) fn place_in(&self, base: &Path) -> MediaLocation {
        match &self.place {
            Some(place) => place.moved(|path| base.join(path)),
            None if self.name == "." => MediaLocation::Path(base.to_path_buf()),
            None => MediaLocation::Path(base.join(&self.name)),
        }
    }

    fn item(&self, base: &Path) -> Option<Item> {
        let place = self.place_in(base);
        let info = self.video.as_ref()?.info(&place.shown());
        Some(Item { name: self.name.clone(), place, label: self.label, caption: self.caption.clone(), info: Some(info) })
    }
}

impl Signature {
    /// The current signature of the file or folder of frames at `path`.
    ///
    /// # Errors
    ///
    /// If nothing exists at `path`.
    pub fn of(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let meta = std::fs::metadata(path).map_err(io)?;
        let bytes = if meta.is_dir() { frame_folder::list(path)?.len() as u64 } else { meta.len() };
        let since = meta.modified().map_err(io)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { bytes, modified: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) })
    }

    /// How the video at `path` has changed since, as far as that can be seen without reading it; `None` if it has not.
    pub fn stale(&self, path: &Path) -> Option<String> {
        match std::fs::metadata(path) {
            Err(e) => Some(format!("{}: in the index, but gone ({e}); run `latte data index` again", path.display())),
            // Folders are not checked here: opening one counts its frames.
            Ok(meta) if meta.is_dir() || meta.len() == self.bytes => None,
            Ok(meta) => Some(format!(
                "{}: the index says {} bytes, the file has {}: it has changed since; run `latte data index` again",
                path.display(),
                self.bytes,
                meta.len()
            )),
        }
    }
}

impl Probe {
    /// The metadata of an opened video.
    pub fn of(info: &VideoInfo) -> Self {
        Self {
            frames: info.num_frames,
            width: info.width,
            height: info.height,
            fps: info.fps,
            duration: info.duration,
            container: info.container.clone(),
            codec: info.codec.clone(),
            rotation: info.rotation,
            variable_frame_rate: info.variable_frame_rate,
        }
    }

    /// The [`VideoInfo`] that opening the video at `path` would give.
    pub fn info(&self, path: &Path) -> VideoInfo {
        VideoInfo {
            path: path.to_path_buf(),
            container: self.container.clone(),
            codec: self.codec.clone(),
            width: self.width,
            height: self.height,
            rotation: self.rotation,
            fps: self.fps,
            num_frames: self.frames,
            duration: self.duration,
            variable_frame_rate: self.variable_frame_rate,
            decoder: "index",
        }
    }
}

fn wrong(path: &Path, line: usize, what: &str) -> Error {
    Error::folder(path, format!("line {line}: not an index of a data set, as `latte data index` writes it: {what}"))
}
