//! What a checkpoint holds, and how it is written and read.
//!
//! A checkpoint is a folder:
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the weights |
//! | `ema.safetensors` | their moving average; with its metadata ([`CheckpointMetadata`](latte_model::checkpoint::CheckpointMetadata)) all that sampling needs |
//! | `optimizer.safetensors` | AdamW's moments, `first_moment.<name>` and `second_moment.<name>` |
//! | `config.toml` | the configuration, defaults written out |
//! | `state.toml` | step, generator, place in the data, what the timestep sampler has learnt (TOML: its reader gives every bit of a number back) |

use std::path::{Path, PathBuf};

use latte_model::checkpoint::{CheckpointFolder, EMA_FILE, FORMAT, MODEL_FILE, STATE_FILE, check_format, not_understood};
use latte_model::diffusion::TimestepSampler;
use latte_model::noise::RngState;
use latte_model::weights;
use latte_ops::Parameters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::RunConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::Position;
use crate::engine::checkpoint_folder::{self, prune};
use crate::engine::state::TrainState;
use crate::error::{Error, Result};

const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const CONFIG_FILE: &str = "config.toml";

/// The state of a run besides its tensors: with both it resumes exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The layout of the checkpoint; 1.
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// Optimiser steps done.
    pub step: u64,
    /// The random generator of times, noise and dropped conditions.
    pub rng: RngState,
    /// The next clip.
    pub position: Position,
    /// The state of the timestep sampler, if the task has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<TimestepSampler>,
    /// How many videos the data has, and a number that changes with their names.
    pub data: DatasetFingerprint,
}

impl RunState {
    /// The layout that this version writes.
    pub(crate) const FORMAT: u32 = FORMAT;
}

/// A checkpoint in memory, of a run with the configuration `C`.
#[derive(Debug)]
pub struct Checkpoint<C> {
    /// The tensors.
    pub state: TrainState,
    /// The rest of the run's state.
    pub run: RunState,
    /// The configuration of the run that wrote it.
    pub config: C,
    /// The description of the model in `model.safetensors`.
    pub description: Option<Value>,
}

/// Writes a checkpoint atomically, then removes the oldest checkpoints until `output.keep_last` are left. `descriptions` are those of the
/// weights and of their average.
pub(crate) fn save<C: RunConfig>(
    folder: &CheckpointFolder,
    state: &TrainState,
    run: &RunState,
    config: &C,
    descriptions: Option<[Value; 2]>,
) -> Result<PathBuf> {
    let path = checkpoint_folder::write(folder, run.step, |dir| {
        write_tensors(dir, state, descriptions)?;
        write(&dir.join(CONFIG_FILE), &config.to_toml()?)?;
        let text = toml::to_string(run).map_err(|e| Error::checkpoint(dir, e.to_string()))?;
        write(&dir.join(STATE_FILE), &text)
    })?;
    prune(folder, config.output().keep_last)?;
    Ok(path)
}

impl<C: RunConfig> Checkpoint<C> {
    /// Reads the checkpoint in the folder `path`.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged, or of a newer layout.
    pub fn load(path: &Path) -> Result<Self> {
        let run = read_state(&path.join(STATE_FILE))?;
        let config = C::read(&path.join(CONFIG_FILE))?;
        let (state, description) = read_tensors(path, run.step)?;
        Ok(Self { state, run, config, description })
    }
}

/// Writes weights, average and moments into the folder `dir`; `descriptions` are of weights and average.
fn write_tensors(dir: &Path, state: &TrainState, descriptions: Option<[Value; 2]>) -> Result<()> {
    let [model, ema] = descriptions.map_or([None, None], |d| d.map(Some));
    weights::save(&dir.join(MODEL_FILE), &state.weights, model.as_ref())?;
    weights::save(&dir.join(EMA_FILE), &state.ema, ema.as_ref())?;
    let moments = [("first_moment.", &state.first_moments), ("second_moment.", &state.second_moments)];
    let named = moments.iter().flat_map(|(prefix, set)| set.iter().map(move |(n, t)| (format!("{prefix}{n}"), t.clone())));
    Ok(weights::save(&dir.join(OPTIMIZER_FILE), &named.collect(), None)?)
}

/// Reads what [`write_tensors`] wrote in step `step`, and the description of the weights.
fn read_tensors(dir: &Path, step: u64) -> Result<(TrainState, Option<Value>)> {
    let (trained, description) = weights::load(&dir.join(MODEL_FILE))?;
    let (ema, _) = weights::load(&dir.join(EMA_FILE))?;
    let optimizer_path = dir.join(OPTIMIZER_FILE);
    let (mut first_moments, mut second_moments) = (Parameters::new(), Parameters::new());
    for (name, tensor) in weights::load(&optimizer_path)?.0 {
        if let Some(name) = name.strip_prefix("first_moment.") {
            first_moments.insert(name, tensor);
        } else if let Some(name) = name.strip_prefix("second_moment.") {
            second_moments.insert(name, tensor);
        } else {
            return Err(Error::checkpoint(optimizer_path, format!("`{name}` is no moment of the optimiser")));
        }
    }
    let state = TrainState { weights: trained, ema, first_moments, second_moments, step };
    check_shapes(dir, &state)?;
    Ok((state, description))
}

fn read_state(path: &Path) -> Result<RunState> {
    let text = latte_textfile::read(path).map_err(Error::io(path))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| not_understood(path, e.message()))?;
    let format = table.get("format").and_then(toml::Value::as_integer).unwrap_or_default();
    check_format(path, u32::try_from(format).unwrap_or(u32::MAX))?;
    Ok(table.try_into().map_err(|e: toml::de::Error| not_understood(path, &e.to_string().replace('\n', " ")))?)
}

/// Checks that weights, average and moments have the same names and shapes.
fn check_shapes(path: &Path, state: &TrainState) -> Result<()> {
    for (what, set) in [("ema", &state.ema), ("first moments", &state.first_moments), ("second moments", &state.second_moments)] {
        for (name, tensor) in set.iter() {
            if !state.weights.get(name).is_ok_and(|weight| weight.dims() == tensor.dims()) {
                let what = format!("`{name}` of the {what} has shape {:?}, the weights have none such", tensor.dims());
                return Err(Error::checkpoint(path, what));
            }
        }
    }
    if state.ema.len() != state.weights.len() || state.first_moments.len() != state.second_moments.len() {
        return Err(Error::checkpoint(path, "weights, average and moments do not hold the same parameters"));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))
}
