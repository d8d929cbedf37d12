//! Finds and reads weights, with the metadata needed to sample from them.

use std::path::{Path, PathBuf};

use latte_ops::Parameters;

use super::EMA_FILE;
use super::assumed::load_pretrained;
use super::folder::CheckpointFolder;
use super::metadata::{CheckpointMetadata, without_metadata};
use crate::Result;
use crate::model::ConfigHints;
use crate::weights::{self, Pretrained, TensorSource, WeightKind, refuse};

/// Finds the weights file of `path`: the file itself, the moving average in a checkpoint folder, or that of the newest checkpoint
/// of a run folder.
///
/// # Errors
///
/// If there are none.
pub fn find_weights(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    if path.join(EMA_FILE).is_file() {
        return Ok(path.join(EMA_FILE));
    }
    if !path.exists() {
        return Err(refuse(path, "no such file or folder").into());
    }
    match CheckpointFolder::of_run(path).latest()? {
        Some(newest) => Ok(newest.join(EMA_FILE)),
        None => Err(refuse(
            path,
            format!(
                "no checkpoint here: expected a weights file, a folder with `{EMA_FILE}`, or a run folder with `checkpoints`"
            ),
        )
        .into()),
    }
}

/// Weights, with the metadata needed to sample from them.
#[derive(Debug)]
pub struct LoadedWeights {
    /// The weights.
    pub weights: Parameters,
    /// Their metadata.
    pub metadata: CheckpointMetadata,
    /// Which of several sets of weights was chosen, and which values were assumed; empty if neither was necessary. In words.
    pub notes: Vec<String>,
}

/// Reads weights, with the metadata needed to sample from them. `path` may be what [`find_weights`] accepts. Files of other
/// programs are read with [`load_pretrained`].
///
/// # Errors
///
/// If there are none, they are damaged, or the file has no metadata of a model.
pub fn open_weights(path: &Path) -> Result<LoadedWeights> {
    let path = find_weights(path)?;
    let files = Pretrained::open(&path)?;
    let mut notes: Vec<String> = files.note().into_iter().collect();
    let (weights, metadata) = match (files.files().is_described(), files.kind()) {
        (true, _) => {
            let metadata = CheckpointMetadata::read(files.files())?;
            let tensor = |name: String| Ok((name.clone(), files.f32_tensor(&name)?));
            (files.names().into_iter().map(tensor).collect::<weights::Result<_>>()?, metadata)
        }
        (false, WeightKind::Latte) => {
            let (weights, assumed) = load_pretrained(&files, ConfigHints::default())?;
            notes.push(assumed.note(&path));
            (weights, assumed.metadata)
        }
        // Checked before the tensors are read, which may be larger than the memory.
        (false, other) => return Err(without_metadata(&path, &format!("it holds {other}"))),
    };
    Ok(LoadedWeights { weights, metadata, notes })
}

/// As [`open_weights`], without its notes.
///
/// # Errors
///
/// As [`open_weights`].
pub fn load_weights(path: &Path) -> Result<(Parameters, CheckpointMetadata)> {
    open_weights(path).map(|opened| (opened.weights, opened.metadata))
}
