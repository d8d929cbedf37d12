//! The single images of joint training: which ones each clip gets.
//!
//! All images of the data set are one list, shuffled again for every epoch. Clip number `i` of the epoch gets entries `i · n` to `i
//! · n + n − 1`, and the list starts over after its end. An epoch visits every video once, so it does not use all images if there
//! are more than `n` per video.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use latte_model::noise::TorchRng;
use latte_video::dataset::{Dataset, ImageList};
use latte_video::{Decoder, Transform, Video, VideoInfo, read_image};

use crate::config::DataConfig;
use crate::data::loader::{EpochPlace, LoadedClip};
use crate::error::{Error, Result};

/// The stream of an epoch's generator that shuffles images; the streams of clips have the numbers of the clips.
const SHUFFLE_STREAM: u64 = u64::MAX;
/// The number of images that are tried for one place before the clip fails.
const MAX_TRIES: usize = 100;

/// The order of a list in every epoch.
#[derive(Debug)]
pub struct EpochOrder {
    len: usize,
    /// Threads work on clips of one epoch, or of two at its end.
    held: Mutex<BTreeMap<u64, Arc<Vec<usize>>>>,
}

impl EpochOrder {
    /// The order of a list of `len` entries, at least one.
    pub fn new(len: usize) -> Self {
        Self { len, held: Mutex::default() }
    }

    /// The `count` entries for the clip at `place`.
    pub fn entries(&self, place: EpochPlace<'_>, count: usize) -> Vec<usize> {
        let order = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|&epoch, _| epoch + 1 >= place.epoch);
            Arc::clone(held.entry(place.epoch).or_insert_with(|| Arc::new(place.rng.fork(SHUFFLE_STREAM).randperm(self.len))))
        };
        let first = place.index as usize * count;
        (first..first + count).map(|at| order[at % self.len]).collect()
    }
}

/// The images of a data set, and the number per clip.
#[derive(Debug)]
pub(super) struct JointImages {
    pub(super) per_clip: usize,
    pub(super) order: EpochOrder,
    pub(super) pool: ImagePool,
}

/// All images of a data set, as one list.
#[derive(Debug)]
pub(super) enum ImagePool {
    /// The frames of its videos, one video after the other: the index of the first frame of each video, and the length of the list.
    Frames(Vec<usize>),
    /// Image files of the training size.
    List(ImageList),
}

impl JointImages {
    /// The images that `data` selects, if any. If the frames of the videos must be counted, this counts them and stores the result
    /// in `dataset`.
    pub(super) fn open(dataset: &mut Dataset, data: &DataConfig) -> Result<Option<Self>> {
        let per_clip = data.joint_images;
        if per_clip == 0 {
            return Ok(None);
        }
        let pool = match (&data.image_list, &data.image_path) {
            (Some(list), Some(folder)) => {
                let images = ImageList::read(data.layout, list, folder, &dataset.classes)?;
                check_one(&images, list, data.size.height_width())?;
                ImagePool::List(images)
            }
            _ => ImagePool::frames(dataset, data.decoder.into())?,
        };
        Ok(Some(Self { per_clip, order: EpochOrder::new(pool.len()), pool }))
    }

    /// Adds the images for the clip at `place`: `image` reads an entry of the pool, with draws from `rng`, and returns its values
    /// and class. An image that cannot be read is replaced by another one that `rng` draws. Returns messages about the unreadable
    /// ones.
    pub(super) fn add_to(
        &self,
        place: EpochPlace<'_>,
        clip: &mut LoadedClip,
        rng: &mut TorchRng,
        image: &dyn Fn(usize, &mut TorchRng) -> Image,
    ) -> std::result::Result<Vec<String>, String> {
        let mut failed = Vec::new();
        for mut entry in self.order.entries(place, self.per_clip) {
            let mut tries = 0;
            let (values, label) = loop {
                match image(entry, rng) {
                    Ok(image) => break image,
                    Err(e) if tries == MAX_TRIES => {
                        return Err(format!("{MAX_TRIES} images in a row cannot be read; the last one: {e}"));
                    }
                    Err(e) => failed.push(e),
                }
                tries += 1;
                entry = rng.randint(0, self.pool.len() as i64, 1).map_err(|e| e.to_string())?[0] as usize;
            };
            clip.frames.values_mut().extend(values); // [f + images so far, …]
            clip.image_labels.extend(label);
        }
        Ok(failed)
    }
}

/// The values of an image and its class, or why it cannot be read.
pub(super) type Image = std::result::Result<(Vec<f32>, Option<u32>), String>;

impl ImagePool {
    /// All frames of all videos.
    fn frames(dataset: &mut Dataset, decoder: Decoder) -> Result<Self> {
        probe(dataset, decoder);
        let mut starts = Vec::with_capacity(dataset.items.len() + 1);
        let mut total = 0;
        starts.push(total);
        for item in &dataset.items {
            // A video that cannot be opened has no images.
            total += item.info.as_ref().map_or(0, |info| info.num_frames);
            starts.push(total);
        }
        if total == 0 {
            return Err(Error::data(&dataset.root, "no video can be opened, so there are no images for `data.joint_images`"));
        }
        Ok(Self::Frames(starts))
    }

    /// The number of images, at least one.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Frames(starts) => starts[starts.len() - 1],
            Self::List(images) => images.len(),
        }
    }
}

/// The video and its frame for entry `entry` of the list of all frames.
pub(super) fn locate(starts: &[usize], entry: usize) -> (usize, usize) {
    let video = starts.partition_point(|&start| start <= entry) - 1;
    (video, entry - starts[video])
}

/// Reads an image of the training size `[height, width]`: `[3, h, w]`.
pub(super) fn read_sized(path: &Path, size: [usize; 2]) -> std::result::Result<Vec<f32>, String> {
    let image = read_image(path).map_err(|e| e.to_string())?;
    Transform::None.apply(&image, size).map_err(|e| format!("{}: {e}", path.display()))
}

/// Checks one image: if the size is wrong, it is wrong for all of them.
fn check_one(images: &ImageList, list: &Path, size: [usize; 2]) -> Result<()> {
    let mut first_error = None;
    for index in 0..images.len().min(MAX_TRIES) {
        match read_sized(&images.path(index), size) {
            Ok(_) => return Ok(()),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    let said = first_error.unwrap_or_default();
    Err(Error::data(list, format!("images must be readable and have the size `data.size`; the first one: {said}")))
}

/// Opens the videos that the index does not describe, and stores their properties.
fn probe(dataset: &mut Dataset, decoder: Decoder) {
    let items = &dataset.items;
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, VideoInfo)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, item)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?))) {
                    if item.info.is_none()
                        && let Ok(video) = Video::open_media(&item.place, decoder)
                    {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((at, video.info().clone()));
                    }
                }
            });
        }
    });
    for (at, info) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        dataset.items[at].info = Some(info);
    }
}
