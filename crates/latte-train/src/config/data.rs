//! The `[data]` section of the configuration.

use std::path::PathBuf;

use latte_video::dataset::{ImageList, Layout, Location, ManifestOptions};
use latte_video::{ClipWindow, Decoder, FrameRule, Transform};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::at_least_one;
use crate::data::source::WindowRule;
use crate::error::Result;

/// `[data]`: the videos, and how clips are cut from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The folder of videos; for the layout `manifest`, a csv, tsv, jsonl, json or parquet file; for `shards`, a folder of tar
    /// files, one tar file, or a pattern such as `train-{00000..00146}.tar`.
    pub path: PathBuf,
    /// The layout of the data set on disk: `folder` (the default), `faceforensics`, `skytimelapse`, `ucf101`, `taichi_hd`,
    /// `manifest`, `shards`. It decides which videos there are, what their classes are, and the defaults of `frame_rule`,
    /// `transform` and `flip`.
    #[serde(default)]
    pub layout: Layout,
    /// The column of a manifest that has the paths of the videos. Default: found by its name, see
    /// [`Dataset::from_manifest`](latte_video::dataset::Dataset::from_manifest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_column: Option<String>,
    /// The column of the captions. Default: found by its name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// The column of the labels. Default: found by its name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The base folder of the paths in a manifest. Default: the manifest's own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_path: Option<PathBuf>,
    /// A file that `latte data index` wrote: training then neither scans `path` nor opens every video. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<PathBuf>,
    /// A latent cache that `latte encode` made from the videos: training then needs neither the videos nor the encoder. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<PathBuf>,
    /// Height and width of the frames that the model sees, in pixels: a number for a square, or `[height, width]`.
    pub size: FrameSize,
    /// Frames of a clip. Default 16, the paper's.
    #[serde(default = "defaults::num_frames")]
    pub num_frames: usize,
    /// The distance of two neighbouring frames of a clip, in frames of the video. Default 3, the paper's.
    #[serde(default = "defaults::frame_interval")]
    pub frame_interval: usize,
    /// How the frames are spread over the video: `linspace`, `official_stride` or `exact_stride`. Default: the layout's.
    #[serde(default)]
    pub frame_rule: FrameRule,
    /// How frames are brought to `size`: `resize_crop`, `crop_resize` or `none`. Default: the layout's.
    #[serde(default)]
    pub transform: Transform,
    /// Mirror each clip with probability 1/2. Default: the layout's. It is off for a plain folder: where the direction of motion,
    /// or text, has a meaning, a mirrored clip is wrong.
    #[serde(default)]
    pub flip: bool,
    /// Joint training: the number of single images of the data set that are added to each clip. Default 0; the paper has 8.
    #[serde(default)]
    pub joint_images: usize,
    /// For FaceForensics and UCF101 only: the list of the images, one path below `image_path` per line. Default: frames of the
    /// videos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_list: Option<PathBuf>,
    /// The folder of the images in `image_list`, whose size is `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_path: Option<PathBuf>,
    /// The decoder: `auto` (the default: the first that is installed and reads the file, in this order), `libavcodec` (the
    /// system's library, in this process), `ffmpeg` (the program) or `built_in`.
    #[serde(default)]
    pub decoder: DecoderChoice,
    /// Threads that decode ahead. Default 2.
    #[serde(default = "defaults::loader_threads")]
    pub loader_threads: usize,
    /// Clips that may be decoded ahead. Default 16.
    #[serde(default = "defaults::prefetch")]
    pub prefetch: usize,
    /// Memory for whole decoded videos, in MiB; a video that does not fit is decoded again each time. It changes the speed only.
    /// Default 512; 0 turns it off.
    #[serde(default = "defaults::cache_mib")]
    pub cache_mib: usize,
}

impl DataConfig {
    /// The location of the data set and how it is listed.
    pub fn location(&self) -> Location {
        let manifest = ManifestOptions {
            path_column: self.path_column.clone(),
            caption_column: self.caption_column.clone(),
            label_column: self.label_column.clone(),
            root: self.video_path.clone(),
        };
        Location { layout: self.layout, path: self.path.clone(), manifest }
    }

    /// The clip window.
    pub fn window(&self) -> ClipWindow {
        ClipWindow { num_frames: self.num_frames, frame_interval: self.frame_interval, rule: self.frame_rule }
    }

    /// How a clip is drawn from a video.
    pub fn window_rule(&self) -> WindowRule {
        WindowRule { window: self.window(), flip: self.flip }
    }

    /// Checks the values; error messages begin with `source_name`.
    pub(crate) fn validate(&self, source_name: &str) -> Result<()> {
        let [height, width] = self.size.height_width();
        let counts = [
            ("data.size", height.min(width) as u64),
            ("data.num_frames", self.num_frames as u64),
            ("data.frame_interval", self.frame_interval as u64),
            ("data.loader_threads", self.loader_threads as u64),
            ("data.prefetch", self.prefetch as u64),
        ];
        at_least_one(source_name, &counts)
    }

    /// The first key that contradicts another one, and why; reads no file.
    pub(crate) fn contradiction(&self, classes: bool) -> Option<(&'static str, String)> {
        if classes && !self.layout.has_classes() {
            let what = format!("`{}` has no classes, but `model.condition` is `class`; set that to `none`", self.layout);
            return Some(("data.layout", what));
        }
        let of_manifests = [
            ("data.path_column", self.path_column.is_some()),
            ("data.caption_column", self.caption_column.is_some()),
            ("data.label_column", self.label_column.is_some()),
            ("data.video_path", self.video_path.is_some()),
        ];
        if let Some((key, _)) = of_manifests.into_iter().find(|(_, is_set)| *is_set && self.layout != Layout::Manifest) {
            return Some((key, format!("only for manifests, but `data.layout` is `{}`; set that to `manifest`", self.layout)));
        }
        match (&self.image_list, &self.image_path) {
            (Some(_), None) => {
                return Some(("data.image_path", "missing; it is the folder of the images of `image_list`".into()));
            }
            (None, Some(_)) => return Some(("data.image_list", "missing; `image_path` is the folder of its images".into())),
            (Some(_), Some(_)) if !ImageList::is_for(self.layout) => {
                let what = format!("only for `faceforensics` and `ucf101`; images of `{}` are frames of its videos", self.layout);
                return Some(("data.image_list", what));
            }
            _ => {}
        }
        None
    }
}

/// Writes the layout's rules for clips into the `[data]` of a configuration, for the keys that it does not set.
pub(crate) fn write_out_layout(config: &mut Table) {
    let Some(Value::Table(data)) = config.get_mut("data") else { return };
    let layout = data.get("layout").map_or(Ok(Layout::default()), |value| value.clone().try_into());
    // An unknown layout is refused when the table is read.
    let Ok(Value::Table(rules)) =
        layout.and_then(|layout: Layout| Value::try_from(layout.rules()).map_err(serde::de::Error::custom))
    else {
        return;
    };
    for (key, value) in rules {
        data.entry(key).or_insert(value);
    }
}

/// The size of the frames that the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of pixels or [height, width]")]
pub enum FrameSize {
    /// A square.
    Square(usize),
    /// `[height, width]`.
    HeightWidth([usize; 2]),
}

impl FrameSize {
    /// `[height, width]` in pixels.
    pub fn height_width(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::HeightWidth(size) => size,
        }
    }
}

/// The decoder of video files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderChoice {
    /// The system's libavcodec, the ffmpeg program, the built-in decoders: the first that is installed and reads the file.
    #[default]
    Auto,
    /// The built-in decoders.
    BuiltIn,
    /// The built-in container reader with the system's libavcodec.
    Libavcodec,
    /// The ffmpeg program.
    Ffmpeg,
}

impl From<DecoderChoice> for Decoder {
    fn from(choice: DecoderChoice) -> Self {
        match choice {
            DecoderChoice::Auto => Self::Auto,
            DecoderChoice::BuiltIn => Self::BuiltIn,
            DecoderChoice::Libavcodec => Self::Libavcodec,
            DecoderChoice::Ffmpeg => Self::Ffmpeg,
        }
    }
}

mod defaults {
    pub(super) fn num_frames() -> usize {
        16
    }
    pub(super) fn frame_interval() -> usize {
        3
    }
    pub(super) fn loader_threads() -> usize {
        2
    }
    pub(super) fn prefetch() -> usize {
        16
    }
    pub(super) fn cache_mib() -> usize {
        512
    }
}
