//! A folder of videos as a data set: which files, which classes, and how a file becomes a training clip.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use latte::noise::TorchRng;
use latte_video::{Clip, ClipWindow, Video, find_videos, transform};

use crate::config::{DataConfig, Transform};
use crate::error::{Error, Result};
use crate::loader::{ClipFrames, ClipSource, LoadedClip};

/// The videos of a folder, in an order that depends on their names alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFolder {
    /// The folder.
    pub root: PathBuf,
    /// All videos: files, and folders of frames.
    pub videos: Vec<PathBuf>,
    /// The class of each video; absent in a folder without classes.
    pub labels: Option<Vec<u32>>,
    /// The names of the classes: those of the sub-folders, sorted. A class's number is its place. Empty without classes.
    pub classes: Vec<String>,
}

impl VideoFolder {
    /// Lists every video under `root`, sub-folders included, and takes no notice of classes.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read or holds no video.
    pub fn flat(root: &Path) -> Result<Self> {
        let videos = videos_in(root)?;
        Ok(Self { root: root.to_path_buf(), videos, labels: None, classes: Vec::new() })
    }

    /// Lists a folder whose sub-folders are the classes. A sub-folder whose name begins with a dot is none.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, has no sub-folder, or a sub-folder holds no video.
    pub fn by_class(root: &Path) -> Result<Self> {
        let mut classes = BTreeMap::new();
        for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
            let path = entry.map_err(Error::io(root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') {
                classes.insert(name, path);
            }
        }
        if classes.is_empty() {
            let what = "no sub-folder: with `model.condition = \"class\"` the videos of each class lie in a sub-folder named after \
                        the class; for videos without classes set `model.condition = \"none\"`";
            return Err(Error::data(root, what));
        }
        let (mut videos, mut labels) = (Vec::new(), Vec::new());
        for (label, folder) in classes.values().enumerate() {
            let found = videos_in(folder)?;
            labels.resize(labels.len() + found.len(), label as u32);
            videos.extend(found);
        }
        Ok(Self { root: root.to_path_buf(), videos, labels: Some(labels), classes: classes.into_keys().collect() })
    }

    /// Text that changes whenever a video is added, removed or renamed (FNV-1a over the paths below the root).
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for video in &self.videos {
            let name = video.strip_prefix(&self.root).unwrap_or(video).to_string_lossy();
            for byte in name.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }
}

fn videos_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Err(Error::data(folder, "no such folder; `data.path` must be a folder of videos"));
    }
    let videos = find_videos(folder).map_err(|e| Error::data(folder, e.to_string()))?;
    if videos.is_empty() {
        return Err(Error::data(folder, "no video in this folder (a video is a video file, or a folder of png or jpeg frames)"));
    }
    Ok(videos)
}

/// Loads training clips from the videos of a folder.
#[derive(Debug)]
pub struct FolderSource {
    folder: VideoFolder,
    window: ClipWindow,
    data: DataConfig,
    size: [usize; 2],
    cache: FrameCache,
}

impl FolderSource {
    /// Clips of the videos of `folder` as `data` says.
    pub fn new(folder: VideoFolder, data: &DataConfig) -> Self {
        let cache = FrameCache { budget: data.cache_mib * 1024 * 1024, held: Mutex::default() };
        Self { folder, window: data.window(), size: data.size.height_width(), data: data.clone(), cache }
    }

    /// The frame rate of training clips: that of the first video that can be opened, divided by the frame interval.
    ///
    /// # Errors
    ///
    /// If no video can be opened; the message is that of the first.
    pub fn clip_fps(&self) -> Result<f64> {
        let mut first_error = None;
        for path in &self.folder.videos {
            match Video::open(path, self.data.decoder.into()) {
                Ok(video) => return Ok(video.info().fps / self.data.frame_interval as f64),
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        let count = self.folder.videos.len();
        let said = first_error.map_or_else(String::new, |e| e.to_string());
        Err(Error::data(&self.folder.root, format!("none of the {count} videos can be opened; the first one: {said}")))
    }

    fn clip(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<Vec<f32>, String> {
        let path = &self.folder.videos[file];
        let said = |e: latte_video::Error| e.to_string();
        if let Some(frames) = self.cache.get(file) {
            let indices = self.pick(frames.len(), path, rng)?;
            return Ok(indices.iter().flat_map(|&i| frames[i].iter().copied()).collect());
        }
        let video = Video::open(path, self.data.decoder.into()).map_err(said)?;
        let total = video.info().num_frames;
        let indices = self.pick(total, path, rng)?;
        let frame_len = 3 * self.size[0] * self.size[1];
        if self.cache.reserve(file, total * frame_len * size_of::<f32>()) {
            // The whole video costs more than one window, once. If it fails as a whole, the window may still be sound.
            if let Ok(all) = video.all() {
                let pixels = self.transform(&all);
                let frames: Arc<Frames> = Arc::new(pixels.chunks_exact(frame_len).map(<[f32]>::to_vec).collect());
                self.cache.put(file, Arc::clone(&frames));
                return Ok(indices.iter().flat_map(|&i| frames[i].iter().copied()).collect());
            }
            self.cache.release(total * frame_len * size_of::<f32>());
        }
        Ok(self.transform(&video.frames(&indices).map_err(said)?))
    }

    fn pick(&self, total: usize, path: &Path, rng: &mut TorchRng) -> std::result::Result<Vec<usize>, String> {
        // A video that is too short has no start; `indices` says why.
        let starts = self.window.num_starts(total).max(1) as i64;
        let start = rng.randint(0, starts, 1).map_err(|e| e.to_string())?[0] as usize;
        self.window.indices(total, start).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// `[f, h, w, 3]` u8 to `[f, 3, size]` in [-1, 1], frame by frame.
    fn transform(&self, clip: &Clip) -> Vec<f32> {
        let mut pixels = match self.data.transform {
            Transform::ResizeCrop => transform::short_side_resize_center_crop(clip, self.size),
            Transform::CropResize => transform::center_crop_resize(clip, self.size),
        };
        transform::normalize(&mut pixels);
        pixels
    }
}

impl ClipSource for FolderSource {
    fn num_files(&self) -> usize {
        self.folder.videos.len()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
        let mut pixels = self.clip(file, rng)?;
        // Drawn only where flips are wanted, after the window.
        if self.data.flip && rng.rand_f32(1)[0] < 0.5 {
            transform::flip_horizontal(&mut pixels, self.size[1]);
        }
        let label = self.folder.labels.as_ref().map(|labels| labels[file]);
        Ok(LoadedClip { frames: ClipFrames::Pixels(pixels), label, image_labels: Vec::new() })
    }
}

/// The frames of one video after the transform, each `[3, h, w]`.
type Frames = Vec<Vec<f32>>;

/// Whole videos after the transform, while they fit. Changes how long a clip takes, never what it is.
#[derive(Debug)]
struct FrameCache {
    budget: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// `None`: reserved by a thread that is decoding it, or found not to fit or not to decode as a whole.
    frames: BTreeMap<usize, Option<Arc<Frames>>>,
}

impl FrameCache {
    fn get(&self, file: usize) -> Option<Arc<Frames>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).frames.get(&file)?.clone()
    }

    /// Whether the caller should decode `file` as a whole and [`put`](Self::put) it.
    fn reserve(&self, file: usize, bytes: usize) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + bytes > self.budget || held.frames.contains_key(&file) {
            return false;
        }
        held.bytes += bytes;
        held.frames.insert(file, None);
        true
    }

    /// Gives back what was reserved for a video that does not decode as a whole; it is not tried as a whole again.
    fn release(&self, bytes: usize) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).bytes -= bytes;
    }

    fn put(&self, file: usize, frames: Arc<Frames>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).frames.insert(file, Some(frames));
    }
}
