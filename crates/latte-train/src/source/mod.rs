//! Where clips come from: a configuration's videos, listed and opened.
//!
//! [`open_data`] is the one place that knows which kinds of sources there are.

mod cache;
mod images;
mod video;
mod window;

use std::collections::BTreeMap;

use latte_video::dataset::{Dataset, Index, Layout, Signature};

pub use images::EpochOrder;
pub use video::VideoSource;
pub use window::{Window, WindowRule};

use crate::checkpoint::DataMark;
use crate::config::{ConditionKind, TrainConfig};
use crate::error::{Error, Result};
use crate::loader::ClipSource;

/// The data of a run, ready to load clips from.
pub struct OpenedData {
    /// Gives the clips.
    pub source: Box<dyn ClipSource>,
    /// The names of the classes, in order of their numbers; empty without classes.
    pub classes: Vec<String>,
    /// Frames per second of training clips.
    pub fps: f64,
    /// Tells whether the data is still the same.
    pub mark: DataMark,
    /// What the user should know about it.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for OpenedData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedData").field("classes", &self.classes).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// Opens the data of a run.
///
/// # Errors
///
/// If the data is not there or does not fit the configuration; each names what to change.
pub fn open_data(config: &TrainConfig) -> Result<OpenedData> {
    let ListedData { dataset, signatures, notes } = list_data(config)?;
    let mark = DataMark { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let classes = dataset.classes.clone();
    let source = VideoSource::new(dataset, &config.data).with_signatures(signatures).with_joint_images(&config.data)?;
    Ok(OpenedData { fps: source.clip_fps()?, source: Box::new(source), classes, mark, notes })
}

/// The videos of a run.
#[derive(Debug, Clone)]
pub struct ListedData {
    /// The videos that are trained on; with labels if, and only if, the model is conditioned on classes.
    pub dataset: Dataset,
    /// What the index says about the files; empty without an index.
    pub signatures: BTreeMap<String, Signature>,
    /// What the user should know about it.
    pub notes: Vec<String>,
}

/// Lists the videos of a run: from `data.index` if there is one, else by the rules of `data.layout`.
///
/// # Errors
///
/// If there are none, or the classes are not those that the configuration asks for.
pub fn list_data(config: &TrainConfig) -> Result<ListedData> {
    let data = &config.data;
    let mut notes = Vec::new();
    let location = data.location();
    let (mut dataset, signatures) = match &data.index {
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
    let too_short = data.layout.fit(&mut dataset, &data.window())?;
    if too_short > 0 {
        let what = format!("{too_short} videos have no more frames than a clip covers, and are left out");
        notes.push(format!("{}: {what}, as the layout `{}` has it", data.path.display(), data.layout));
    }
    match config.model.condition {
        ConditionKind::Class => {
            let without = keep_classes(&mut dataset, data.layout)?;
            if without > 0 {
                notes.push(format!("{}: {without} videos have no class, and are left out", data.path.display()));
            }
        }
        ConditionKind::None => forget_classes(&mut dataset),
    }
    Ok(ListedData { dataset, signatures, notes })
}

/// Leaves only videos that have a class, and says how many have none; every class must have some.
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
            let what = format!("no video of the class `{class}` can be read; mend or remove them, and index the data set again");
            return Err(Error::data(&dataset.root, what));
        }
        let what = "no video in this folder, which is a class (a video is a video file, or a folder of png or jpeg frames); \
                    remove the folder, or put videos into it";
        return Err(Error::data(dataset.root.join(class), what));
    }
    Ok(before - dataset.items.len())
}

fn forget_classes(dataset: &mut Dataset) {
    dataset.classes.clear();
    for item in &mut dataset.items {
        item.label = None;
    }
}
