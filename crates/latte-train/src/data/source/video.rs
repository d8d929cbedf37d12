//! Clips that are decoded from the videos of a data set when they are loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use latte_model::noise::TorchRng;
use latte_video::dataset::{Dataset, Item, Signature};
use latte_video::{Clip, Decoder, Transform, Video, VideoInfo};

use super::cache::{FrameCache, Frames};
use super::images::{Image, ImagePool, JointImages, locate, read_sized};
use super::window::{Window, WindowRule};
use crate::config::DataConfig;
use crate::data::loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip};
use crate::error::{Error, Result};

/// Loads training clips from the videos of a data set.
#[derive(Debug)]
pub struct VideoSource {
    dataset: Dataset,
    /// The index's entries of the files; empty without an index.
    signatures: BTreeMap<String, Signature>,
    rule: WindowRule,
    transform: Transform,
    /// `[height, width]`.
    size: [usize; 2],
    frame_interval: usize,
    decoder: Decoder,
    cache: FrameCache,
    images: Option<JointImages>,
}

impl VideoSource {
    /// Clips of the videos of `dataset`, cut by the rules of `data`, without single images.
    pub fn new(dataset: Dataset, data: &DataConfig) -> Self {
        Self {
            dataset,
            signatures: BTreeMap::new(),
            rule: data.window_rule(),
            transform: data.transform,
            size: data.size.height_width(),
            frame_interval: data.frame_interval,
            decoder: data.decoder.into(),
            cache: FrameCache::new(data.cache_mib * 1024 * 1024),
            images: None,
        }
    }

    /// Adds the entries of an index; a file that differs from its entry is then an error.
    #[must_use]
    pub fn with_signatures(mut self, signatures: BTreeMap<String, Signature>) -> Self {
        self.signatures = signatures;
        self
    }

    /// Adds `data.joint_images` single images to every clip. This counts frames if no index has the counts.
    ///
    /// # Errors
    ///
    /// If the list of images cannot be read or names images of another size, or no video can be opened.
    pub fn with_joint_images(mut self, data: &DataConfig) -> Result<Self> {
        self.images = JointImages::open(&mut self.dataset, data)?;
        Ok(self)
    }

    /// The videos.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The frame rate of training clips: that of the first video that can be opened, and whose frames have the right size if there
    /// is no transform, divided by the frame interval.
    ///
    /// # Errors
    ///
    /// If no video can be opened (with the error of the first), or no video's frames fit.
    pub fn clip_fps(&self) -> Result<f64> {
        let (mut first_error, mut misfit) = (None, None);
        for video in 0..self.dataset.items.len() {
            match self.info(video) {
                Ok(info) if self.transform == Transform::None && [info.height, info.width] != self.size => {
                    let what = format!(
                        "its frames are {} × {} (height × width) but `data.size` is {} × {}, and `data.transform` is `none`; set \
                         `data.transform` to `resize_crop` or `crop_resize`, or `data.size`",
                        info.height, info.width, self.size[0], self.size[1]
                    );
                    // The loader also skips a video of another size.
                    misfit = misfit.or_else(|| Some(Error::data(self.dataset.items[video].place.path(), what)));
                }
                Ok(info) => return Ok(info.fps / self.frame_interval as f64),
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        if let Some(misfit) = misfit {
            return Err(misfit);
        }
        let count = self.dataset.items.len();
        let what = format!("none of the {count} videos can be opened; the first one: {}", first_error.unwrap_or_default());
        Err(Error::data(&self.dataset.root, what))
    }

    /// The number of frames of video number `video`.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    ///
    /// # Panics
    ///
    /// If there is no such video.
    pub fn num_frames(&self, video: usize) -> std::result::Result<usize, String> {
        match self.cache.num_frames(video) {
            Some(count) => Ok(count),
            None => Ok(self.info(video)?.num_frames),
        }
    }

    /// Draws a window of a video of `total_frames` frames.
    ///
    /// # Errors
    ///
    /// If the video is too short; the message does not name it.
    pub fn draw_window(&self, total_frames: usize, rng: &mut TorchRng) -> std::result::Result<Window, String> {
        self.rule.draw(total_frames, rng)
    }

    /// The frames `indices` (ascending) of video number `video`, mirrored or not, after the transform: `[f, 3, h, w]` in
    /// `[-1, 1]`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and says why it cannot be read.
    ///
    /// # Panics
    ///
    /// If there is no such video.
    pub fn frames(&self, video: usize, indices: &[usize], flip: bool) -> std::result::Result<Vec<f32>, String> {
        if let Some(held) = self.cache.get((video, flip)) {
            return gather(&held, indices, &self.dataset.items[video]);
        }
        self.decode(video, &self.open(video)?, indices, flip)
    }

    /// Passes all frames of video number `video` after the transform to `each`, in runs of at most `run` frames, `[n, 3, h, w]` in
    /// `[-1, 1]`: unchanged, and with `flips` also mirrored (then the first argument is true). It does not use the cache, opens the
    /// video once, and decodes every frame once. Returns the video's properties.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and says why it cannot be read; or the error of `each`.
    ///
    /// # Panics
    ///
    /// If there is no such video, or `run` is 0.
    pub fn whole(
        &self,
        video: usize,
        run: usize,
        flips: bool,
        each: &mut dyn FnMut(bool, Vec<f32>) -> std::result::Result<(), String>,
    ) -> std::result::Result<VideoInfo, String> {
        let opened = self.open(video)?;
        let indices: Vec<usize> = (0..opened.info().num_frames).collect();
        for indices in indices.chunks(run) {
            let clip = opened.frames(indices).map_err(|e| e.to_string())?;
            each(false, self.sized(video, &clip)?)?;
            if flips {
                each(true, self.sized(video, &clip.mirrored())?)?;
            }
        }
        Ok(opened.info().clone())
    }

    /// The properties of a video, without reading its frames.
    fn info(&self, video: usize) -> std::result::Result<VideoInfo, String> {
        match &self.dataset.items[video].info {
            Some(info) => Ok(info.clone()),
            None => Ok(self.open(video)?.info().clone()),
        }
    }

    fn open(&self, video: usize) -> std::result::Result<Video, String> {
        let item = &self.dataset.items[video];
        let signature = self.signatures.get(&item.name);
        if let Some(what) = signature.and_then(|signature| signature.stale(item.place.path())) {
            return Err(what);
        }
        let opened = Video::open_media(&item.place, self.decoder).map_err(|e| e.to_string())?;
        if let Some(known) = &item.info {
            let told = |info: &VideoInfo| [info.num_frames, info.height, info.width];
            let ([frames, height, width], now) = (told(known), told(opened.info()));
            if now != [frames, height, width] {
                return Err(format!(
                    "{}: {} frames of {} × {}, but {frames} of {height} × {width} are recorded: it has changed since{}",
                    shown(item),
                    now[0],
                    now[1],
                    now[2],
                    if signature.is_some() { "; run `latte data index` again" } else { "" }
                ));
            }
        }
        Ok(opened)
    }

    /// Some frames of an open video; the whole video is cached if it fits.
    fn decode(&self, number: usize, video: &Video, indices: &[usize], flip: bool) -> std::result::Result<Vec<f32>, String> {
        let frame_len = 3 * self.size[0] * self.size[1];
        let (key, bytes) = ((number, flip), video.info().num_frames * frame_len * size_of::<f32>());
        if self.cache.reserve(key, bytes) {
            // Decoding the whole video costs more than one window, but only once. If it fails, the window may still be readable.
            if let Ok(pixels) = self.transformed(number, video.all(), flip) {
                let frames: Arc<Frames> = Arc::new(pixels.chunks_exact(frame_len).map(<[f32]>::to_vec).collect());
                self.cache.put(key, Arc::clone(&frames));
                return gather(&frames, indices, &self.dataset.items[number]);
            }
            self.cache.release(bytes);
        }
        self.transformed(number, video.frames(indices), flip)
    }

    /// `[f, h, w, 3]` u8 to `[f, 3, size]` in [-1, 1]. Mirroring comes first, as in the official readers: see
    /// [`latte_video::transform`].
    fn transformed(&self, video: usize, clip: latte_video::Result<Clip>, flip: bool) -> std::result::Result<Vec<f32>, String> {
        let clip = clip.map_err(|e| e.to_string())?;
        self.sized(video, &if flip { clip.mirrored() } else { clip })
    }

    fn sized(&self, video: usize, clip: &Clip) -> std::result::Result<Vec<f32>, String> {
        let name = |e: latte_video::Error| format!("{}: {e}", shown(&self.dataset.items[video]));
        self.transform.apply(clip, self.size).map_err(name)
    }

    /// One image, `[3, h, w]`, and its class.
    fn image(&self, pool: &ImagePool, entry: usize, rng: &mut TorchRng) -> Image {
        match pool {
            ImagePool::List(images) => Ok((read_sized(&images.path(entry), self.size)?, images.label(entry))),
            ImagePool::Frames(starts) => {
                let (video, frame) = locate(starts, entry);
                let pixels = self.frames(video, &[frame], self.rule.draw_flip(rng))?;
                Ok((pixels, self.dataset.items[video].label))
            }
        }
    }
}

impl ClipSource for VideoSource {
    fn num_files(&self) -> usize {
        self.dataset.items.len()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
        let item = &self.dataset.items[file];
        // Open a video at most once: for its length or for its frames.
        let known = self.cache.num_frames(file).or_else(|| item.info.as_ref().map(|info| info.num_frames));
        let opened = if known.is_none() { Some(self.open(file)?) } else { None };
        let total = known.or_else(|| opened.as_ref().map(|video| video.info().num_frames)).unwrap_or_default();
        let Window { indices, flip } = self.draw_window(total, rng).map_err(|e| format!("{}: {e}", shown(item)))?;
        let pixels = match &opened {
            Some(video) => self.decode(file, video, &indices, flip)?,
            None => self.frames(file, &indices, flip)?,
        };
        let (label, caption) = (item.label, item.caption.clone());
        Ok(LoadedClip { frames: ClipFrames::Pixels(pixels), label, caption, image_labels: Vec::new() })
    }

    fn bytes_kept(&self, file: usize) -> u64 {
        // Both copies, if flips are drawn.
        let copies = if self.rule.flip { 2 } else { 1 };
        let frames = self.num_frames(file).unwrap_or_default();
        (frames * 3 * self.size[0] * self.size[1] * size_of::<f32>() * copies) as u64
    }

    fn add_images(
        &self,
        place: EpochPlace<'_>,
        clip: &mut LoadedClip,
        rng: &mut TorchRng,
    ) -> std::result::Result<Vec<String>, String> {
        let Some(images) = &self.images else { return Ok(Vec::new()) };
        images.add_to(place, clip, rng, &|entry, rng| self.image(&images.pool, entry, rng))
    }
}

fn gather(frames: &Frames, indices: &[usize], item: &Item) -> std::result::Result<Vec<f32>, String> {
    if let Some(index) = indices.iter().find(|&&index| index >= frames.len()) {
        return Err(format!("{}: frame {index} was asked for, but the video has {} frames", shown(item), frames.len()));
    }
    Ok(indices.iter().flat_map(|&index| frames[index].iter().copied()).collect())
}

/// The location of a video, for messages.
fn shown(item: &Item) -> String {
    item.place.shown().display().to_string()
}
