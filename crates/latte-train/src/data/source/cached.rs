//! Clips from a latent cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use latte_model::noise::TorchRng;
use latte_video::dataset::Dataset;

use super::images::{Image, ImagePool, JointImages, locate};
use super::window::{Window, WindowRule};
use super::{OpenedData, Split, select};
use crate::config::TrainConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::latents::LatentCache;
use crate::data::loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip};
use crate::error::{Error, Result};

/// Loads clips as the videos would give them: the same clips in the same order, with the same draws.
#[derive(Debug)]
struct CachedSource {
    cache: Arc<LatentCache>,
    /// The videos that clips are loaded from.
    dataset: Dataset,
    /// Their indices in the cache.
    numbers: Vec<usize>,
    rule: WindowRule,
    images: Option<JointImages>,
}

/// Opens the cache in `folder` for the training of `config`. It needs neither videos nor weights.
///
/// # Errors
///
/// If the cache is unfinished or damaged, or does not fit the configuration; the message names the difference.
pub(super) fn open(folder: &Path, config: &TrainConfig) -> Result<OpenedData> {
    let data = &config.data;
    let (cache, mut dataset, notes) = select_from(folder, config)?;
    if data.image_list.is_some() {
        let what = "set, but a latent cache only has frames of videos; leave it out to take the images from them";
        return Err(Error::config("configuration", "data.image_list", what));
    }
    let header = &cache.manifest().header;
    let (space, vae) = (header.space()?, header.autoencoder.clone());
    let Some(info) = dataset.items.iter().find_map(|item| item.info.as_ref()) else {
        return Err(Error::data(folder, "none of its videos could be read when it was encoded"));
    };
    let fps = info.fps / data.frame_interval as f64;
    let held_out: Option<Box<dyn ClipSource>> = match &config.validation {
        None => None,
        Some(validation) => {
            let (cache, mut held_out) = match &validation.path {
                Some(path) => select_from(path, config).map(|(cache, dataset, _)| (cache, dataset))?,
                None => (Arc::clone(&cache), dataset.clone()),
            };
            if held_out.classes != dataset.classes {
                let what = "its classes are not those of the training data";
                return Err(Error::data(validation.path.as_deref().unwrap_or(folder), what));
            }
            if let Some(fraction) = validation.fraction {
                Split::Validation.keep(&mut held_out.items, fraction, &dataset.classes)?;
            }
            Some(Box::new(CachedSource::new(cache, held_out, data.window_rule(), None)))
        }
    };
    if let Some(fraction) = config.held_out() {
        Split::Training.keep(&mut dataset.items, fraction, &dataset.classes)?;
    }
    let mark = DatasetFingerprint { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let classes = dataset.classes.clone();
    let images = JointImages::open(&mut dataset, data)?;
    let source = Box::new(CachedSource::new(cache, dataset, data.window_rule(), images));
    Ok(OpenedData { source, held_out, space, vae: Some(vae), autoencoder: None, classes, fps, mark, notes })
}

/// The cache in `folder`, and its videos that fit `config`, with notes for the user.
fn select_from(folder: &Path, config: &TrainConfig) -> Result<(Arc<LatentCache>, Dataset, Vec<String>)> {
    let cache = LatentCache::open(folder)?;
    if let Some(what) = cache.manifest().header.misfit(&config.data, &config.autoencoder)? {
        return Err(Error::data(folder, format!("this latent cache does not fit the configuration: {what}")));
    }
    let mut dataset = cache.manifest().dataset(&config.data.path);
    let mut notes = Vec::new();
    select(&mut dataset, config, &mut notes)?;
    Ok((Arc::new(cache), dataset, notes))
}

impl CachedSource {
    fn new(cache: Arc<LatentCache>, dataset: Dataset, rule: WindowRule, images: Option<JointImages>) -> Self {
        let all: BTreeMap<&str, usize> = cache.manifest().videos.iter().enumerate().map(|(n, v)| (v.name.as_str(), n)).collect();
        let numbers = dataset.items.iter().filter_map(|item| all.get(item.name.as_str()).copied()).collect();
        Self { cache, dataset, numbers, rule, images }
    }

    /// One image, `[m, h, w]`, and its class.
    fn image(&self, starts: &[usize], entry: usize, rng: &mut TorchRng) -> Image {
        let (video, frame) = locate(starts, entry);
        let moments = self.cache.moments(self.numbers[video], &[frame], self.rule.draw_flip(rng))?;
        Ok((moments, self.dataset.items[video].label))
    }
}

impl ClipSource for CachedSource {
    fn num_files(&self) -> usize {
        self.dataset.items.len()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
        let (item, number) = (&self.dataset.items[file], self.numbers[file]);
        let moments = match &item.info {
            // Returns the error.
            None => self.cache.moments(number, &[], false)?,
            Some(info) => {
                let drawn = self.rule.draw(info.num_frames, rng);
                let Window { indices, flip } = drawn.map_err(|e| format!("{}: {e}", item.name))?;
                self.cache.moments(number, &indices, flip)?
            }
        };
        let (label, caption) = (item.label, item.caption.clone());
        Ok(LoadedClip { frames: ClipFrames::Moments(moments), label, caption, image_labels: Vec::new() })
    }

    fn add_images(
        &self,
        place: EpochPlace<'_>,
        clip: &mut LoadedClip,
        rng: &mut TorchRng,
    ) -> std::result::Result<Vec<String>, String> {
        match &self.images {
            Some(images) => images.add_to(place, clip, rng, &|entry, rng| match &images.pool {
                ImagePool::Frames(starts) => self.image(starts, entry, rng),
                ImagePool::List(_) => Err("a latent cache only has frames of videos".into()),
            }),
            None => Ok(Vec::new()),
        }
    }
}
