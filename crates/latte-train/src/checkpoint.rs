//! What a checkpoint holds, and how it is written and read.
//!
//! A checkpoint is a folder:
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the weights |
//! | `ema.safetensors` | their moving average; with its metadata ([`ModelCard`]) all that sampling needs |
//! | `optimizer.safetensors` | AdamW's moments, `first_moment.<name>` and `second_moment.<name>` |
//! | `config.toml` | the configuration, defaults written out |
//! | `state.toml` | step, generator, place in the data, what the timestep sampler has learnt (TOML: its reader gives every bit of a number back) |

use std::path::{Path, PathBuf};

use latte_model::diffusion::{DiffusionConfig, TimestepSampler};
use latte_model::model::{Hints, LatteConfig};
use latte_model::noise::RngState;
use latte_model::weights::{self, Pretrained, TensorSource, WeightFiles, WeightKind};
use latte_ops::Parameters;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint_folder::{CheckpointFolder, STATE_FILE};
use crate::config::{AutoencoderConfig, TrainConfig, VaeMark};
use crate::error::{Error, Result};
use crate::loader::Position;
use crate::pretrained::load_pretrained;
use crate::state::TrainState;

const MODEL_FILE: &str = "model.safetensors";
const EMA_FILE: &str = "ema.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
pub(crate) const CONFIG_FILE: &str = "config.toml";
/// Grows when older programs would misread a newer checkpoint.
pub(crate) const FORMAT: u32 = 1;

/// What must be known about weights to sample from them. Lies in the metadata of the weights file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The layout of this description; 1.
    pub format: u32,
    /// The network.
    pub model: LatteConfig,
    /// The diffusion process that it was trained on.
    pub diffusion: DiffusionConfig,
    /// The space that it works in.
    pub autoencoder: AutoencoderConfig,
    /// With `autoencoder.kind = "kl"`: which autoencoder made the latents; absent where nobody knows, as in official weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<VaeMark>,
    /// The names of the classes, in order of their numbers; empty without classes.
    pub classes: Vec<String>,
    /// Height and width of a frame in pixels.
    pub frame_size: [usize; 2],
    /// Frames of a clip.
    pub num_frames: usize,
    /// Frames per second of the clips that it was trained on.
    pub fps: f64,
    /// Optimiser steps that made these weights.
    pub step: u64,
    /// Whether these are the moving average.
    pub ema: bool,
}

impl ModelCard {
    /// Format 1: what this version writes.
    pub(crate) const FORMAT: u32 = FORMAT;
}

/// What a run needs besides tensors to go on exactly where it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The layout of the checkpoint; 1.
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// Optimiser steps done.
    pub step: u64,
    /// The generator of times, noise and dropped labels.
    pub rng: RngState,
    /// The next clip.
    pub position: Position,
    /// What the timestep sampler has learnt.
    pub timesteps: TimestepSampler,
    /// How many videos the data has, and a number that changes with their names.
    pub data: DataMark,
}

/// Tells whether the data is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataMark {
    /// How many videos.
    pub num_videos: usize,
    /// Changes when a video is added, removed or renamed; 16 hexadecimal digits.
    pub fingerprint: String,
}

impl RunState {
    /// The layout that this version writes.
    pub(crate) const FORMAT: u32 = FORMAT;
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    /// The tensors.
    pub state: TrainState,
    /// What else the run needs.
    pub run: RunState,
    /// The configuration of the run that wrote it.
    pub config: TrainConfig,
    /// The model.
    pub card: ModelCard,
}

/// Writes a checkpoint, whole or not at all, and removes the oldest ones beyond `config.output.keep_last`.
pub(crate) fn save(
    folder: &CheckpointFolder,
    state: &TrainState,
    run: &RunState,
    config: &TrainConfig,
    card: &ModelCard,
) -> Result<PathBuf> {
    let path = folder.write(run.step, |dir| {
        let card = |ema| description(&ModelCard { step: run.step, ema, ..card.clone() }, dir);
        write_tensors(dir, state, Some([card(false)?, card(true)?]))?;
        write(&dir.join(CONFIG_FILE), &config.to_toml()?)?;
        let text = toml::to_string(run).map_err(|e| Error::checkpoint(dir, e.to_string()))?;
        write(&dir.join(STATE_FILE), &text)
    })?;
    folder.prune(config.output.keep_last)?;
    Ok(path)
}

impl Checkpoint {
    /// Reads the checkpoint in the folder `path`.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged, or of a newer layout.
    pub fn load(path: &Path) -> Result<Self> {
        let run: RunState = read_state(&path.join(STATE_FILE))?;
        let config_path = path.join(CONFIG_FILE);
        let config = TrainConfig::load(&config_path, &[])?;
        let (state, description) = read_tensors(path, run.step)?;
        Ok(Self { card: card_of(&path.join(MODEL_FILE), description)?, state, run, config })
    }
}

/// Writes weights, average and moments into the folder `dir`; `descriptions` are of weights and average.
pub(crate) fn write_tensors(dir: &Path, state: &TrainState, descriptions: Option<[Value; 2]>) -> Result<()> {
    let [model, ema] = descriptions.map_or([None, None], |d| d.map(Some));
    weights::save(&dir.join(MODEL_FILE), &state.weights, model.as_ref())?;
    weights::save(&dir.join(EMA_FILE), &state.ema, ema.as_ref())?;
    let moments = [("first_moment.", &state.first_moments), ("second_moment.", &state.second_moments)];
    let named = moments.iter().flat_map(|(prefix, set)| set.iter().map(move |(n, t)| (format!("{prefix}{n}"), t.clone())));
    Ok(weights::save(&dir.join(OPTIMIZER_FILE), &named.collect(), None)?)
}

/// Reads what [`write_tensors`] wrote in step `step`, and the description of the weights.
pub(crate) fn read_tensors(dir: &Path, step: u64) -> Result<(TrainState, Option<Value>)> {
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

/// Finds the weights that `path` means: a weights file itself, the average in a checkpoint folder, or that of the newest
/// checkpoint of a run folder.
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
        return Err(Error::checkpoint(path, "no such file or folder"));
    }
    match CheckpointFolder::of_run(path).latest()? {
        Some(newest) => Ok(newest.join(EMA_FILE)),
        None => Err(Error::checkpoint(
            path,
            format!(
                "no checkpoint here: expected a weights file, a folder with `{EMA_FILE}`, or a run folder with `checkpoints`"
            ),
        )),
    }
}

/// Weights, and what must be known to sample from them.
#[derive(Debug)]
pub struct LoadedWeights {
    /// The weights.
    pub weights: Parameters,
    /// What they are of.
    pub card: ModelCard,
    /// Which of several sets of weights was taken, and what was taken for granted, where there was something to decide. In words.
    pub notes: Vec<String>,
}

/// Reads weights and what must be known to sample from them. `path` is taken as [`find_weights`] does. Files of other programs are
/// taken as [`load_pretrained`] does.
///
/// # Errors
///
/// If there are none, they are damaged, or the file tells of no model.
pub fn open_weights(path: &Path) -> Result<LoadedWeights> {
    let path = find_weights(path)?;
    let files = Pretrained::open(&path)?;
    let mut notes: Vec<String> = files.note().into_iter().collect();
    let (weights, card) = match (files.files().is_described(), files.kind()) {
        (true, _) => {
            let card = read_card(files.files())?;
            let tensor = |name: String| Ok((name.clone(), files.f32_tensor(&name)?));
            (files.names().into_iter().map(tensor).collect::<weights::Result<_>>()?, card)
        }
        (false, WeightKind::Latte) => {
            let (weights, assumed) = load_pretrained(&files, Hints::default())?;
            notes.push(assumed.note(&path));
            (weights, assumed.card)
        }
        // Said before anything is read, which may be larger than the memory.
        (false, other) => return Err(no_card(&path, &format!("it holds {other}"))),
    };
    Ok(LoadedWeights { weights, card, notes })
}

/// As [`open_weights`], without its notes.
///
/// # Errors
///
/// As [`open_weights`].
pub fn load_weights(path: &Path) -> Result<(Parameters, ModelCard)> {
    open_weights(path).map(|opened| (opened.weights, opened.card))
}

/// The card in a file of weights that this program wrote. No tensor is read.
///
/// # Errors
///
/// If there is none, or it cannot be understood.
pub fn read_card(files: &WeightFiles) -> Result<ModelCard> {
    card_of(files.path(), files.description()?)
}

/// The card that the description of the weights in `path` is.
fn card_of(path: &Path, description: Option<Value>) -> Result<ModelCard> {
    let description = description.ok_or_else(|| no_card(path, "another program wrote it"))?;
    let format = Format::deserialize(&description).map_err(|e| not_understood(path, &e.to_string()))?.format;
    check_format(path, format)?;
    ModelCard::deserialize(&description).map_err(|e| not_understood(path, &e.to_string()))
}

fn no_card(path: &Path, why: &str) -> Error {
    let what = format!("no `latte` in the metadata: the file does not say which model its weights are of ({why})");
    Error::checkpoint(path, what)
}

/// The one field that every layout has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn check_format(path: &Path, format: u32) -> Result<()> {
    if format > FORMAT {
        return Err(Error::NewerLayout { path: path.to_path_buf(), layout: format, known: FORMAT });
    }
    Ok(())
}

/// Reads the state of a run, of this kind of training or another.
pub(crate) fn read_state<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = latte_textfile::read(path).map_err(Error::io(path))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| not_understood(path, e.message()))?;
    let format = table.get("format").and_then(toml::Value::as_integer).unwrap_or_default();
    check_format(path, u32::try_from(format).unwrap_or(u32::MAX))?;
    table.try_into().map_err(|e| not_understood(path, &e.to_string().replace('\n', " ")))
}

fn not_understood(path: &Path, why: &str) -> Error {
    Error::checkpoint(path, format!("cannot be understood, it may be damaged: {why}"))
}

/// Weights, average and moments must be one family.
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

fn description(card: &ModelCard, path: &Path) -> Result<Value> {
    serde_json::to_value(card).map_err(|e| Error::checkpoint(path, e.to_string()))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))
}
