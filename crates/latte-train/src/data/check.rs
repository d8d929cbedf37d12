//! Checks whether a run could train on its data.

use std::path::PathBuf;

use latte_progress::Progress;
use latte_video::dataset::{
    Diagnostic, Expected, ImageList, Index, IndexEntry, ScanOptions, Severity, Signature, check, check_files, check_images, scan,
};

use crate::config::{ConditionKind, TrainConfig};
use crate::data::latents::Manifest;
use crate::data::source::try_data;
use crate::error::Result;

/// The number of images of a list that are read.
const IMAGE_SAMPLES: usize = 200;

/// The result of a check of a run's data.
#[derive(Debug)]
pub struct DataCheck {
    /// The videos.
    pub index: Index,
    /// The problems, worst first. There is an error among them if and only if the run could not train.
    pub diagnostics: Vec<Diagnostic>,
    /// The image list of joint training, and its number of images.
    pub images: Option<(PathBuf, usize)>,
}

/// Checks all data that `config` trains on: the videos, their entries in `data.index`, or the latent cache. Whether the run could
/// train is decided by the code of the run itself, which opens the data here too.
///
/// # Errors
///
/// If the autoencoder or the latent cache does not fit the configuration.
pub fn check_data(config: &TrainConfig, options: ScanOptions, progress: &mut dyn Progress) -> Result<DataCheck> {
    config.check_latents()?;
    let data = &config.data;
    let mut diagnostics = Vec::new();
    let index = match look(config, options, &mut diagnostics, progress) {
        Ok(index) => index,
        // Opening the data for training, below, reports the same error if training needs the file.
        Err(e) => {
            diagnostics.push(Diagnostic { severity: Severity::Warning, what: e.to_string() });
            Index { layout: data.layout, root: data.path.clone(), classes: Vec::new(), entries: Vec::new() }
        }
    };
    if !index.entries.is_empty() {
        diagnostics.extend(check(&index, &expected(config)));
    }
    let images = match (&data.image_list, &data.image_path) {
        (Some(list), Some(folder)) if data.joint_images > 0 && data.latents.is_none() => {
            match ImageList::read(data.layout, list, folder, &index.classes) {
                Ok(images) => {
                    diagnostics.extend(check_images(&images, Some(data.size.height_width()), IMAGE_SAMPLES));
                    Some((list.clone(), images.len()))
                }
                Err(e) => {
                    diagnostics.push(Diagnostic { severity: Severity::Warning, what: e.to_string() });
                    None
                }
            }
        }
        _ => None,
    };
    settle(&mut diagnostics, try_data(config).err().map(|e| e.to_string()));
    Ok(DataCheck { index, diagnostics, images })
}

/// Collects what is known about the videos, and adds diagnostics.
fn look(
    config: &TrainConfig,
    options: ScanOptions,
    diagnostics: &mut Vec<Diagnostic>,
    progress: &mut dyn Progress,
) -> Result<Index> {
    let data = &config.data;
    if let Some(folder) = &data.latents {
        let Manifest { header, videos } = Manifest::read(folder)?;
        let entries = videos.into_iter().map(|video| IndexEntry {
            name: video.name,
            place: None,
            label: video.label,
            caption: video.caption,
            signature: Signature { bytes: video.bytes, modified: 0 },
            video: video.video,
            hash: None,
            error: video.error,
        });
        return Ok(Index { layout: header.layout, root: header.root, classes: header.classes, entries: entries.collect() });
    }
    if let Some(file) = &data.index {
        let index = Index::read(file)?;
        match check_files(&index, &data.location()) {
            Ok(found) => diagnostics.extend(found),
            // Training reads the index and does not list the videos again.
            Err(e) => {
                diagnostics.push(Diagnostic { severity: Severity::Warning, what: format!("the data set cannot be listed: {e}") });
            }
        }
        return Ok(index);
    }
    let scanned = scan(&data.location(), &[], options, progress)?;
    diagnostics.extend(scanned.skipped.diagnostic());
    Ok(scanned.index)
}

fn expected(config: &TrainConfig) -> Expected {
    let data = &config.data;
    // Latents already have their size.
    let size = data.latents.is_none().then(|| data.size.height_width());
    let num_classes = if config.model.condition == ConditionKind::Class { config.model.num_classes } else { None };
    Expected { window: data.window(), transform: data.transform, size, num_classes }
}

/// Makes the run's own error (`refusal`) the only error diagnostic; without one, all diagnostics are warnings.
fn settle(diagnostics: &mut Vec<Diagnostic>, refusal: Option<String>) {
    match refusal {
        Some(what) => {
            diagnostics.retain(|diagnostic| diagnostic.what != what);
            diagnostics.push(Diagnostic { severity: Severity::Error, what });
        }
        None => diagnostics.iter_mut().for_each(|diagnostic| diagnostic.severity = Severity::Warning),
    }
    diagnostics.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
}
