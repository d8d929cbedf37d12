//! Checkpoints of an autoencoder's training: the folder and files of [`crate::Checkpoint`], without what only models of video
//! need.

use std::path::{Path, PathBuf};

use latte_model::checkpoint::{CheckpointFolder, FORMAT, STATE_FILE};
use latte_model::noise::RngState;
use serde::{Deserialize, Serialize};

use super::config::VaeTrainConfig;
use crate::data::loader::Position;
use crate::engine::checkpoint::{CONFIG_FILE, DatasetFingerprint, read_state, read_tensors, write, write_tensors};
use crate::engine::checkpoint_folder::{self, prune};
use crate::engine::state::TrainState;
use crate::error::{Error, Result};

/// What a run needs to resume exactly, beside tensors and configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeRunState {
    /// The layout of the checkpoint; 1.
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// Optimiser steps done.
    pub step: u64,
    /// The generator of what latents are drawn with.
    pub rng: RngState,
    /// The next clip.
    pub position: Position,
    /// How many videos the data has, and a number that changes with their names.
    pub data: DatasetFingerprint,
}

impl VaeRunState {
    /// The layout that this version writes.
    pub(super) const FORMAT: u32 = FORMAT;
}

/// Writes a checkpoint, whole or not at all, and removes the oldest ones beyond `config.output.keep_last`.
pub(super) fn save(folder: &CheckpointFolder, state: &TrainState, run: &VaeRunState, config: &VaeTrainConfig) -> Result<PathBuf> {
    let path = checkpoint_folder::write(folder, run.step, |dir| {
        write_tensors(dir, state, None)?;
        write(&dir.join(CONFIG_FILE), &config.to_toml()?)?;
        let text = toml::to_string(run).map_err(|e| Error::checkpoint(dir, e.to_string()))?;
        write(&dir.join(STATE_FILE), &text)
    })?;
    prune(folder, config.output.keep_last)?;
    Ok(path)
}

/// Reads the checkpoint in the folder `path`.
pub(super) fn load(path: &Path) -> Result<(TrainState, VaeRunState, VaeTrainConfig)> {
    let run: VaeRunState = read_state(&path.join(STATE_FILE))?;
    let config = VaeTrainConfig::load(&path.join(CONFIG_FILE), &[])?;
    Ok((read_tensors(path, run.step)?.0, run, config))
}
