//! The manifest of a latent cache: its contents and its source.

use std::path::{Path, PathBuf};

use candle_core::DType;
use latte_model::vae::{AutoencoderConfig, AutoencoderFingerprint, LatentSpace};
use latte_model::weights::StoredDtype;
use latte_ops::Precision;
use latte_video::Transform;
use latte_video::dataset::{Dataset, Item, Layout, MediaLocation, Probe};
use serde::{Deserialize, Serialize};

use crate::config::DataConfig;
use crate::error::{Error, Result};

/// The manifest's name in the folder of a cache.
pub(super) const MANIFEST: &str = "latents.jsonl";
const FORMAT: &str = "latte-latents";
const VERSION: u32 = 1;

/// Everything that the values of a cache depend on besides the videos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheHeader {
    /// `latte-latents`.
    pub format: String,
    /// The layout of the cache; 1.
    pub version: u32,
    /// The autoencoder.
    pub autoencoder: AutoencoderFingerprint,
    /// The path of the autoencoder when the cache was encoded.
    pub autoencoder_path: PathBuf,
    /// The precision of its matmuls.
    pub precision: Precision,
    /// The layout of the data set on disk.
    pub layout: Layout,
    /// The folder of the data set when the cache was encoded.
    pub root: PathBuf,
    /// The names of the classes, in order of their numbers; empty without classes.
    pub classes: Vec<String>,
    /// How frames were brought to their size.
    pub transform: Transform,
    /// Height and width of the frames in pixels.
    pub size: [usize; 2],
    /// The dtype of the stored values.
    pub dtype: MomentDtype,
    /// Whether every video is also stored mirrored.
    pub flips: bool,
    /// The number of videos in a group.
    pub group_videos: usize,
    /// The largest size of a file in bytes, unless it has only one video.
    pub file_bytes: u64,
}

/// The dtype of stored moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentDtype {
    /// As the encoder returns them.
    #[default]
    F32,
    /// Rounded to 11 significant bits, for half the space.
    F16,
}

/// One video of a cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoRecord {
    /// The name of the video in its data set.
    pub name: String,
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u32>,
    /// Its caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// The size of its file in bytes; for a folder of frames, the number of frames.
    pub bytes: u64,
    /// The video's properties; absent if it could not be read completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Probe>,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The file with its moments, under its number in the manifest (`000012`, and `000012.flipped`). Only the manifest has this
    /// key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The manifest of a cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Everything that the values depend on besides the videos.
    pub header: CacheHeader,
    /// All videos, unreadable ones included, in the order of the data set.
    pub videos: Vec<VideoRecord>,
}

impl MomentDtype {
    /// Bytes per value.
    pub fn size(self) -> usize {
        self.stored().size()
    }

    pub(super) fn stored(self) -> StoredDtype {
        match self {
            Self::F32 => StoredDtype::F32,
            Self::F16 => StoredDtype::F16,
        }
    }

    pub(super) fn tensor(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

impl std::fmt::Display for MomentDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stored().fmt(f)
    }
}

impl CacheHeader {
    pub(super) fn new(
        data: &DataConfig,
        precision: Precision,
        autoencoder: AutoencoderFingerprint,
        path: &Path,
        classes: Vec<String>,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            autoencoder,
            autoencoder_path: path.to_path_buf(),
            precision,
            layout: data.layout,
            root: data.path.clone(),
            classes,
            transform: data.transform,
            size: data.size.height_width(),
            dtype: MomentDtype::default(),
            flips: data.flip,
            group_videos: 1,
            file_bytes: 0,
        }
    }

    /// The space of the latents.
    ///
    /// # Errors
    ///
    /// If the header is invalid.
    pub fn space(&self) -> Result<LatentSpace> {
        Ok(self.autoencoder.config.latent_space()?)
    }

    /// `[m, h, w]` of one frame's moments.
    ///
    /// # Errors
    ///
    /// If the frames do not fit the autoencoder.
    pub fn frame_shape(&self) -> Result<[usize; 3]> {
        let space = self.space()?;
        let [_, _, h, w] = space.latent_shape(1, self.size[0], self.size[1])?;
        Ok([space.moment_channels(), h, w])
    }

    /// What training depends on, as pairs of key and value.
    fn content(&self) -> Vec<(&'static str, String)> {
        let [height, width] = self.size;
        vec![
            ("`data.layout`", self.layout.to_string()),
            ("`data.size`", format!("{height} × {width}")),
            ("`data.transform`", word(&self.transform)),
            ("`autoencoder.precision`", word(&self.precision)),
        ]
    }

    /// The first difference between the cache that `wanted` describes and this one: the name, the value here, and the value wanted.
    pub(super) fn difference(&self, wanted: &Self) -> Option<String> {
        let all = |header: &Self| {
            let mut all = header.content();
            all.push(("the type of values", header.dtype.to_string()));
            all.push(("whether flips are stored", if header.flips { "yes" } else { "no" }.into()));
            all.push(("the number of videos in a group", header.group_videos.to_string()));
            all.push(("the largest size of a file", header.file_bytes.to_string()));
            all.push(("the list of classes", header.classes.join(", ")));
            all
        };
        another_autoencoder(&self.autoencoder, &wanted.autoencoder).or_else(|| first_difference(&all(self), &all(wanted)))
    }

    /// The reason why training on `data` with `autoencoder` cannot use this cache, if any.
    pub(crate) fn misfit(&self, data: &DataConfig, autoencoder: &AutoencoderConfig) -> Result<Option<String>> {
        let path = autoencoder.path.as_deref().filter(|path| path.exists());
        let another = match path {
            Some(path) => another_autoencoder(&self.autoencoder, &AutoencoderFingerprint::of(path)?),
            // Without a path there is nothing to compare; the cache's autoencoder is used.
            None => None,
        };
        let wanted = Self::new(data, autoencoder.precision, self.autoencoder.clone(), Path::new(""), Vec::new());
        Ok(another.or_else(|| first_difference(&self.content(), &wanted.content())).or_else(|| {
            let what = "it has no mirrored videos, and `data.flip` is true; encode with --flips, or set `data.flip` to false";
            (wanted.flips && !self.flips).then(|| what.into())
        }))
    }
}

fn first_difference(here: &[(&str, String)], wanted: &[(&str, String)]) -> Option<String> {
    let (key, value, other) = here.iter().zip(wanted).map(|((key, a), (_, b))| (key, a, b)).find(|(_, a, b)| a != b)?;
    Some(format!("{key} is {value} in it, and {other} was asked for"))
}

fn another_autoencoder(here: &AutoencoderFingerprint, wanted: &AutoencoderFingerprint) -> Option<String> {
    let short = |mark: &AutoencoderFingerprint| mark.sha256.chars().take(12).collect::<String>();
    if here.is_same(wanted) {
        return None;
    }
    Some(match (short(here), short(wanted)) {
        (a, b) if a == b => "it was made with another configuration of the autoencoder".into(),
        (a, b) => format!("it was made with another autoencoder (weights of SHA-256 {a}…, and {b}… was asked for)"),
    })
}

/// A choice as a configuration writes it.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_string()
}

impl VideoRecord {
    /// The record of a video before it is encoded.
    pub(super) fn planned(item: &Item) -> Self {
        let bytes = match &item.place {
            MediaLocation::Path(path) => latte_video::dataset::Signature::of(path).map_or(0, |signature| signature.bytes),
            MediaLocation::Archived { length, .. } => *length,
        };
        Self {
            name: item.name.clone(),
            label: item.label,
            caption: item.caption.clone(),
            bytes,
            video: None,
            error: None,
            file: None,
        }
    }

    /// Whether this is the record of the same video as `planned`.
    pub(super) fn is_of(&self, planned: &Self) -> bool {
        (&self.name, self.label, &self.caption, self.bytes) == (&planned.name, planned.label, &planned.caption, planned.bytes)
    }
}

impl Manifest {
    /// Whether there is a finished cache in `folder`.
    pub fn exists(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// Reads the manifest of the cache in `folder`.
    ///
    /// # Errors
    ///
    /// If there is none, it is damaged, or a newer version wrote it.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            let what = format!("no latent cache here (`{MANIFEST}` is missing); `latte encode` writes one, or finishes one");
            return Err(Error::data(folder, what));
        }
        let text = latte_textfile::read(&path).map_err(Error::io(&path))?;
        let mut lines = text.lines().enumerate();
        let header = read_header(lines.next().map_or("", |(_, line)| line)).map_err(|what| Error::data(&path, what))?;
        let record = |(number, line): (usize, &str)| {
            let record: VideoRecord = serde_json::from_str(line)
                .map_err(|e| Error::data(&path, format!("line {}: not a video of a latent cache: {e}", number + 1)))?;
            match record.label {
                Some(label) if label as usize >= header.classes.len() => {
                    let what = format!("line {}: label {label} of only {} classes", number + 1, header.classes.len());
                    Err(Error::data(&path, what))
                }
                _ => Ok(record),
            }
        };
        Ok(Self { videos: lines.map(record).collect::<Result<_>>()?, header })
    }

    /// The manifest as text.
    pub(super) fn lines(&self) -> Result<String> {
        let bad = |e: serde_json::Error| Error::data(&self.header.root, format!("it cannot be written to a manifest: {e}"));
        let mut text = serde_json::to_string(&self.header).map_err(bad)?;
        for video in &self.videos {
            text.push('\n');
            text.push_str(&serde_json::to_string(video).map_err(bad)?);
        }
        text.push('\n');
        Ok(text)
    }

    /// The data set that was encoded, with `root` as its folder.
    pub(crate) fn dataset(&self, root: &Path) -> Dataset {
        let item = |record: &VideoRecord| {
            let path = root.join(&record.name);
            Item {
                name: record.name.clone(),
                label: record.label,
                caption: record.caption.clone(),
                info: record.video.as_ref().map(|probe| probe.info(&path)),
                place: MediaLocation::Path(path),
            }
        };
        let items = self.videos.iter().map(item).collect();
        Dataset { root: root.to_path_buf(), items, classes: self.header.classes.clone() }
    }
}

/// Parses a header. The error says what is wrong with it.
pub(super) fn read_header(line: &str) -> std::result::Result<CacheHeader, String> {
    /// The keys that every version has.
    #[derive(Deserialize)]
    struct Known {
        format: String,
        version: u32,
    }
    let known: Known = serde_json::from_str(line).map_err(|e| format!("not the header of a latent cache: {e}"))?;
    if known.format != FORMAT {
        return Err(format!("not a latent cache: expected the format `{FORMAT}`, got `{}`", known.format));
    }
    if known.version != VERSION {
        return Err(format!(
            "a latent cache of version {}; this program knows version {VERSION}: update it, or encode again",
            known.version
        ));
    }
    serde_json::from_str(line).map_err(|e| format!("not the header of a latent cache: {e}"))
}
