//! Clips from a latent cache.

use std::collections::BTreeMap;
use std::path::Path;

use latte::noise::TorchRng;
use latte_video::dataset::Dataset;

use super::images::{Image, ImagePool, JointImages, locate};
use super::window::{Window, WindowRule};
use super::{OpenedData, select};
use crate::checkpoint::DataMark;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::latents::LatentCache;
use crate::loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip};

/// Loads clips as they would come from the videos: the same are there, in the same order, and the same is drawn for each.
#[derive(Debug)]
struct CachedSource {
    cache: LatentCache,
    /// The videos that are trained on.
    dataset: Dataset,
    /// Their numbers in the cache.
    numbers: Vec<usize>,
    rule: WindowRule,
    images: Option<JointImages>,
}

/// Opens the cache in `folder` for the training of `config`. Neither videos nor weights need be there.
///
/// # Errors
///
/// If the cache is not finished or damaged, or was made for other training; the message says what differs.
pub(super) fn open(folder: &Path, config: &TrainConfig) -> Result<OpenedData> {
    let (data, cache) = (&config.data, LatentCache::open(folder)?);
    let header = &cache.manifest().header;
    if let Some(what) = header.misfit(config)? {
        return Err(Error::data(folder, format!("this latent cache does not fit the configuration: {what}")));
    }
    if data.image_list.is_some() {
        let what = "set, but a latent cache has the frames of the videos only; leave it out, and images are taken from them";
        return Err(Error::config("configuration", "data.image_list", what));
    }
    let (space, vae) = (header.space()?, header.autoencoder.clone());
    let mut dataset = cache.manifest().dataset(&data.path);
    let mut notes = Vec::new();
    select(&mut dataset, config, &mut notes)?;
    let Some(info) = dataset.items.iter().find_map(|item| item.info.as_ref()) else {
        return Err(Error::data(folder, "none of its videos could be read when it was encoded"));
    };
    let fps = info.fps / data.frame_interval as f64;
    let all: BTreeMap<&str, usize> = cache.manifest().videos.iter().enumerate().map(|(n, v)| (v.name.as_str(), n)).collect();
    let numbers = dataset.items.iter().filter_map(|item| all.get(item.name.as_str()).copied()).collect();
    let mark = DataMark { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let classes = dataset.classes.clone();
    let images = JointImages::open(&mut dataset, data)?;
    let source = CachedSource { cache, dataset, numbers, rule: data.window_rule(), images };
    Ok(OpenedData { source: Box::new(source), space, vae: Some(vae), classes, fps, mark, notes })
}

impl CachedSource {
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
            // Says why.
            None => self.cache.moments(number, &[], false)?,
            Some(info) => {
                let drawn = self.rule.draw(info.num_frames, rng);
                let Window { indices, flip } = drawn.map_err(|e| format!("{}: {e}", item.name))?;
                self.cache.moments(number, &indices, flip)?
            }
        };
        Ok(LoadedClip { frames: ClipFrames::Moments(moments), label: item.label, image_labels: Vec::new() })
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
                ImagePool::List(_) => Err("a latent cache has the frames of videos only".into()),
            }),
            None => Ok(Vec::new()),
        }
    }
}
