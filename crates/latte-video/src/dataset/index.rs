//! The index of a data set: what was found out about every video, so that training need not open them all.
//!
//! An index is a text file of JSON objects, one a line. The first line says what it is an index of, every other line is one
//! video, in the order of the data set:
//!
//! ```text
//! {"format":"latte-index","version":1,"layout":"ucf101","root":"/data/ucf101","classes":["ApplyEyeMakeup", …]}
//! {"name":"ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi","label":0,"bytes":357084,"modified":1360000000000000000,"video":{"frames":164,"width":320,"height":240,"fps":25.0, …},"hash":"9f86…"}
//! {"name":"ApplyEyeMakeup/cut_off.avi","label":0,"bytes":12,"modified":1360000000000000000,"error":"…"}
//! ```
//!
//! Names are relative to the root, so that the data may move. Where a video is not at its name (those of manifests, where an
//! option says so, and of shards), an entry has a place, which is relative to the root as well:
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

/// What is known about the videos of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// How the data set lies on disk.
    pub layout: Layout,
    /// Where it lay when it was scanned; of a manifest or shards, the folder that places are relative to.
    pub root: PathBuf,
    /// The names of the classes; a label is a place in this list.
    pub classes: Vec<String>,
    /// All videos, unreadable ones included, in the order of the data set.
    pub entries: Vec<IndexEntry>,
}

/// One video of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// What it is called: [`Item::name`].
    pub name: String,
    /// Where it is, relative to the root; `None`: where its name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<MediaLocation>,
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u32>,
    /// What it shows, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// When it was looked at: how large it was, and when it had been changed last.
    #[serde(flatten)]
    pub signature: Signature,
    /// What it says about itself; absent if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Probe>,
    /// SHA-256 of its content, in hexadecimal digits, where that was asked for: of the file, or of all frames one after
    /// the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Tells whether a file or folder of frames is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The size of a file in bytes; of a folder, how many frames it has.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds since 1970; of a folder, when a frame was added, removed or renamed last.
    pub modified: u64,
}

/// What a video says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// How many frames.
    pub frames: usize,
    /// Pixels of a row, as displayed.
    pub width: usize,
    /// Rows, as displayed.
    pub height: usize,
    /// Frames per second; the average if the rate varies.
    pub fps: f64,
    /// Seconds.
    pub duration: f64,
    /// The file format.
    pub container: String,
    /// The codec.
    pub codec: String,
    /// Degrees clockwise by which stored frames are turned for display.
    pub rotation: u32,
    /// Whether frames are shown for unequal times.
    pub variable_frame_rate: bool,
}

/// The first line.
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
    /// If the file cannot be read or is no index; the message names the line.
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

    /// Reads what a scan that was interrupted has left behind; ends before a torn line.
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

    /// Writes the index, whole or not at all.
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
            // It only tells people where the data lay, and the path of a data set may be no Unicode.
            root: PathBuf::from(self.root.to_string_lossy().into_owned()),
            classes: self.classes.clone(),
        };
        serde_json::to_string(&header).map_err(|e| Error::folder(&self.root, format!("no index can name it: {e}")))
    }

    /// The data set as far as it can be read, its files where `location` says.
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

    /// The names of classes that no video has, readable or not; training on classes refuses them.
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
    /// The keys that are read, as [`IndexEntry`] has them.
    const KEYS: [&str; 9] = ["name", "place", "label", "caption", "bytes", "modified", "video", "hash", "error"];

    /// Reads a line. What other programs have added to it is not judged: Python writes `NaN`, which is no JSON.
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
                // A line of nothing that is known says more in the parser's own words.
                serde_json::from_slice(&text).map_err(|of_known| if text.len() > 1 { of_known } else { e }.to_string())
            }
        }
    }

    pub(super) fn line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::folder(Path::new(&self.name), format!("no line of an index: {e}")))
    }

    /// The entry of `item`, as far as it is known without looking at the video.
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

    /// Where the video is, if the data set's root is `base`.
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
    /// The signature of the file or folder of frames at `path`, as it is now.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn of(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let meta = std::fs::metadata(path).map_err(io)?;
        let bytes = if meta.is_dir() { frame_folder::list(path)?.len() as u64 } else { meta.len() };
        let since = meta.modified().map_err(io)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { bytes, modified: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) })
    }

    /// What has become of the video at `path` since, if that can be told without reading it.
    pub fn stale(&self, path: &Path) -> Option<String> {
        match std::fs::metadata(path) {
            Err(e) => Some(format!("{}: in the index, but gone ({e}); run `latte data index` again", path.display())),
            // Opening a folder of frames counts them.
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
    /// From an opened video.
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

    /// As if the video at `path` had been opened.
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
