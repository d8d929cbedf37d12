//! Sources of clips: lists and opens the videos of a configuration.
//!
//! Only [`open_data`] knows all kinds of sources.

mod cache;
mod cached;
mod encoded;
mod images;
mod split;
mod video;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use latte_model::noise::TorchRng;
use latte_model::vae::{Autoencoder, AutoencoderFingerprint, AutoencoderKind, LatentSpace};
use latte_video::Decoder;
use latte_video::dataset::{Dataset, Index, Layout, Signature};

use encoded::EncodedSource;
pub(crate) use encoded::moments;
pub use images::EpochOrder;
pub use split::Split;
pub use video::VideoSource;
pub use window::{Window, WindowRule};

use crate::config::{ConditionKind, DataConfig, TrainConfig, ValidationConfig};
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::{ClipSource, Loader, Position};
use crate::error::{Error, Result};

/// The data of a run, ready to load clips from.
pub struct OpenedData {
    /// The source of training clips.
    pub source: Box<dyn ClipSource>,
    /// The source of validation clips, if the run is validated.
    pub held_out: Option<Box<dyn ClipSource>>,
    /// The space of the latents.
    pub space: LatentSpace,
    /// The autoencoder of the latents; `None` if the network works on pixels.
    pub vae: Option<AutoencoderFingerprint>,
    /// That autoencoder, if clips are encoded when they are loaded.
    pub autoencoder: Option<Arc<dyn Autoencoder>>,
    /// The names of the classes, in order of their numbers; empty without classes.
    pub classes: Vec<String>,
    /// Frames per second of training clips.
    pub fps: f64,
    /// Detects whether the data has changed.
    pub mark: DatasetFingerprint,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for OpenedData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedData").field("classes", &self.classes).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// Opens the training and validation data of a run.
///
/// # Errors
///
/// If the data is missing or does not fit the configuration; each error says what to change.
pub fn open_data(config: &TrainConfig) -> Result<OpenedData> {
    open_data_on(config, &Device::Cpu)
}

/// As [`open_data`]; clips that are encoded when they are loaded are encoded on `device`.
///
/// # Errors
///
/// As [`open_data`].
pub fn open_data_on(config: &TrainConfig, device: &Device) -> Result<OpenedData> {
    config.check_latents()?;
    if let Some(folder) = &config.data.latents {
        return cached::open(folder, config);
    }
    let OpenedVideos { source: videos, mut held_out, classes, mark, notes } = open_videos(config)?;
    let (fps, space) = (videos.clip_fps()?, config.latent_space()?);
    let mut source: Box<dyn ClipSource> = Box::new(videos);
    let (mut vae, mut opened) = (None, None);
    if config.autoencoder.kind == AutoencoderKind::Kl {
        vae = Some(AutoencoderFingerprint::of(config.autoencoder.existing_path().map_err(Error::of_configuration)?)?);
        let (autoencoder, size) = (config.autoencoder.open_on(device)?, config.data.size.height_width());
        opened = Some(Arc::clone(&autoencoder));
        source = Box::new(EncodedSource::new(source, Arc::clone(&autoencoder), size));
        held_out = held_out.map(|pixels| Box::new(EncodedSource::new(pixels, autoencoder, size)) as Box<dyn ClipSource>);
    }
    Ok(OpenedData { source, held_out, space, vae, autoencoder: opened, classes, fps, mark, notes })
}

/// The videos of a run, if it trains on videos.
struct OpenedVideos {
    source: VideoSource,
    held_out: Option<Box<dyn ClipSource>>,
    classes: Vec<String>,
    mark: DatasetFingerprint,
    notes: Vec<String>,
}

/// Lists the videos of a run and splits them into training and validation videos.
fn open_videos(config: &TrainConfig) -> Result<OpenedVideos> {
    let ListedData { mut dataset, signatures, notes } = list_data(config)?;
    let held_out = match &config.validation {
        Some(validation) => Some(held_out(config, validation, &dataset, &signatures)?),
        None => None,
    };
    if let Some(fraction) = config.held_out() {
        Split::Training.keep(&mut dataset.items, fraction, &dataset.classes)?;
    }
    let mark = DatasetFingerprint { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let classes = dataset.classes.clone();
    let source = VideoSource::new(dataset, &config.data).with_signatures(signatures).with_joint_images(&config.data)?;
    Ok(OpenedVideos { source, held_out, classes, mark, notes })
}

/// Does what a training run does with its data, up to the first clip, on pixels; `latte data check` uses it.
///
/// # Errors
///
/// The error that the run itself would report.
pub(crate) fn try_data(config: &TrainConfig) -> Result<()> {
    let (source, held_out, classes) = if let Some(folder) = &config.data.latents {
        let OpenedData { source, held_out, classes, .. } = cached::open(folder, config)?;
        (source, held_out, classes)
    } else {
        let mut config = config.clone();
        if config.data.image_list.is_none() {
            // The images are frames of videos that can be opened; if no clip can be loaded, there are none.
            config.data.joint_images = 0;
        }
        let OpenedVideos { source, held_out, classes, .. } = open_videos(&config)?;
        source.clip_fps()?;
        (Box::new(source) as Box<dyn ClipSource>, held_out, classes)
    };
    config.check_num_classes(classes.len())?;
    if let Some(held_out) = &held_out {
        expect_a_clip(held_out.as_ref())?;
    }
    let mut loader = Loader::new(source, config.train.seed, Position::default(), config.data.loader_threads, 1)?;
    loader.next_clips(1, &mut |_| {})?;
    Ok(())
}

/// Checks that validation data has at least one readable clip: otherwise a run would continue without the loss, with a warning each
/// time.
///
/// # Errors
///
/// If it has none; the message has the error of the last video.
pub(crate) fn expect_a_clip(held_out: &dyn ClipSource) -> Result<()> {
    let files = held_out.num_files();
    let load = |file: usize| held_out.load(file, &mut TorchRng::new(file as u64)).map(drop);
    match (0..files).map(load).try_fold(String::new(), |_, loaded| loaded.err().ok_or(())) {
        Ok(last) if files > 0 => {
            let what = format!("none of the {files} videos for validation gives a clip; the last one: {last}");
            Err(Error::data("validation", what))
        }
        _ => Ok(()),
    }
}

/// The validation data, without the single images of joint training. `all` is the training data, from which some may be held out.
fn held_out(
    config: &TrainConfig,
    validation: &ValidationConfig,
    all: &Dataset,
    signatures: &BTreeMap<String, Signature>,
) -> Result<Box<dyn ClipSource>> {
    // Each clip is loaded once, so the cache is of no use.
    let mut data = DataConfig { joint_images: 0, image_list: None, image_path: None, cache_mib: 0, ..config.data.clone() };
    let mut listed = ListedData { dataset: all.clone(), signatures: signatures.clone(), notes: Vec::new() };
    if let Some(path) = &validation.path {
        data = DataConfig { path: path.clone(), index: None, ..data };
        listed = list_data(&TrainConfig { data: data.clone(), ..config.clone() })?;
        if listed.dataset.classes != all.classes {
            let what = "its classes are not those of the training data; it needs the same sub-folders";
            return Err(Error::data(path, what));
        }
    }
    if let Some(fraction) = validation.fraction {
        Split::Validation.keep(&mut listed.dataset.items, fraction, &all.classes)?;
    }
    Ok(Box::new(VideoSource::new(listed.dataset, &data).with_signatures(listed.signatures)))
}

/// The videos of a run.
#[derive(Debug, Clone)]
pub struct ListedData {
    /// The videos; they have labels if and only if the model is conditioned on classes.
    pub dataset: Dataset,
    /// The index's entries of the files; empty without an index.
    pub signatures: BTreeMap<String, Signature>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Lists the videos of a run, including held-out ones: from `data.index` if it is set, else by the rules of `data.layout`.
///
/// # Errors
///
/// If there are none, or their classes do not fit the configuration.
pub fn list_data(config: &TrainConfig) -> Result<ListedData> {
    let mut listed = list_all(&config.data)?;
    select(&mut listed.dataset, config, &mut listed.notes)?;
    Ok(listed)
}

/// Lists all videos of the data set for any task: from `data.index` if it is set, else by the rules of `data.layout`.
///
/// # Errors
///
/// If there are none.
pub(crate) fn list_all(data: &DataConfig) -> Result<ListedData> {
    let mut notes: Vec<String> = Decoder::from(data.decoder).note().into_iter().collect();
    let location = data.location();
    let (dataset, signatures) = match &data.index {
        None => {
            let (dataset, skipped) = location.list()?;
            notes.extend(skipped.summary());
            (dataset, BTreeMap::new())
        }
        Some(file) => {
            let index = Index::read(file)?;
            if index.layout != data.layout {
                let what = format!("an index of the layout `{}`, but `data.layout` is `{}`", index.layout, data.layout);
                return Err(Error::data(file, what));
            }
            let dataset = index.dataset(&location)?;
            let unreadable = index.entries.len() - dataset.items.len();
            if unreadable > 0 {
                let all = index.entries.len();
                notes.push(format!("{}: {unreadable} of {all} videos cannot be read, and are left out", file.display()));
            }
            (dataset, index.signatures())
        }
    };
    Ok(ListedData { dataset, signatures, notes })
}

/// Lists the videos whose frames are training images, of any class.
///
/// # Errors
///
/// If there are none.
pub(crate) fn list_unlabelled(data: &DataConfig) -> Result<ListedData> {
    let mut listed = list_all(data)?;
    leave_out_short(&mut listed.dataset, data, &mut listed.notes)?;
    forget_classes(&mut listed.dataset);
    Ok(listed)
}

/// Keeps the videos of a data set that a run trains on, with labels if and only if the model is conditioned on classes.
fn select(dataset: &mut Dataset, config: &TrainConfig, notes: &mut Vec<String>) -> Result<()> {
    let data = &config.data;
    leave_out_short(dataset, data, notes)?;
    match config.model.condition {
        ConditionKind::Class => {
            let without = keep_classes(dataset, data.layout)?;
            if without > 0 {
                notes.push(format!("{}: {without} videos have no class, and are left out", data.path.display()));
            }
        }
        ConditionKind::None => {
            // A single folder does not distinguish classes.
            if data.layout.classes_are_folders() && dataset.classes.len() > 1 {
                notes.push(format!(
                    "{}: its {} sub-folders ({}) are not taken as classes, because `model.condition` is `none`; set it to `class` for a \
                     model that can be asked for each of them",
                    data.path.display(),
                    dataset.classes.len(),
                    first_of(&dataset.classes)
                ));
            }
            forget_classes(dataset);
        }
    }
    Ok(())
}

/// Removes videos that are too short, if the layout has this rule.
fn leave_out_short(dataset: &mut Dataset, data: &DataConfig, notes: &mut Vec<String>) -> Result<()> {
    let too_short = data.layout.fit(dataset, &data.window())?;
    if too_short > 0 {
        let what = format!("{too_short} videos have no more frames than a clip covers, and are left out");
        notes.push(format!("{}: {what}, as the layout `{}` has it", data.path.display(), data.layout));
    }
    Ok(())
}

/// Keeps only videos with a class, and returns the number of the others; every class must have some.
fn keep_classes(dataset: &mut Dataset, layout: Layout) -> Result<usize> {
    let by_folders = layout.classes_are_folders();
    if dataset.classes.is_empty() {
        let missing = if by_folders {
            "no sub-folder: with `model.condition = \"class\"` the videos of each class lie in a sub-folder named after the class"
        } else if layout == Layout::Manifest {
            "no labels: with `model.condition = \"class\"` a column names the class of each video; name it with `data.label_column`"
        } else {
            "no labels: with `model.condition = \"class\"` each video has its class in a .cls file, or as `label` in its .json"
        };
        let what = format!("{missing}; for videos without classes set `model.condition = \"none\"`");
        return Err(Error::data(&dataset.root, what));
    }
    let before = dataset.items.len();
    dataset.items.retain(|item| item.label.is_some());
    let mut has_videos = vec![false; dataset.classes.len()];
    for label in dataset.items.iter().filter_map(|item| item.label) {
        if let Some(seen) = has_videos.get_mut(label as usize) {
            *seen = true;
        }
    }
    if let Some((class, _)) = dataset.classes.iter().zip(has_videos).find(|(_, has)| !has) {
        if !by_folders {
            let what =
                format!("no video of the class `{class}` can be read; repair or remove them, and index the data set again");
            return Err(Error::data(&dataset.root, what));
        }
        let what = "no video in this folder, which is a class (a video is a video file, or a folder of png or jpeg frames); \
                    remove the folder, or put videos into it";
        return Err(Error::data(dataset.root.join(class), what));
    }
    Ok(before - dataset.items.len())
}

/// The first names of a list.
fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn forget_classes(dataset: &mut Dataset) {
    dataset.classes.clear();
    for item in &mut dataset.items {
        item.label = None;
    }
}
