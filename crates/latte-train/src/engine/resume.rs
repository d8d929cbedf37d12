//! Going on from a checkpoint: which one, whether it is whole, whether it fits the configuration, and what is no longer as it was.

use std::path::{Path, PathBuf};

use latte_model::checkpoint::{CheckpointFolder, CheckpointMetadata};
use latte_model::diffusion::TimestepSampler;
use latte_model::model::Latte;
use latte_model::noise::TorchRng;
use latte_model::vae::AutoencoderFingerprint;
use toml::{Table, Value};

use crate::config::TrainConfig;
use crate::data::loader::Position;
use crate::engine::checkpoint::{Checkpoint, DatasetFingerprint};
use crate::engine::state::TrainState;
use crate::error::{Error, Result};

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the newest checkpoint of the run folder if there is one, else at step 0.
    #[default]
    Auto,
    /// At the newest checkpoint; an error if there is none.
    Resume,
    /// At step 0; an error if the run folder has checkpoints, which would be overwritten.
    Fresh,
}

/// The checkpoint to resume from, if any, as `start` wants it.
pub(crate) fn newest_checkpoint(checkpoints: &CheckpointFolder, run: &Path, start: Start) -> Result<Option<PathBuf>> {
    let newest = checkpoints.latest()?;
    match (start, &newest) {
        (Start::Resume, None) => Err(Error::checkpoint(run, "no checkpoint to resume from; start the run without resuming")),
        (Start::Fresh, Some(path)) => Err(Error::checkpoint(
            run,
            format!("this run has checkpoints (the newest is {}); resume it, or set another `output.run`", path.display()),
        )),
        _ => Ok(newest),
    }
}

/// Where a run resumes.
pub(crate) struct Resumed {
    pub(crate) state: TrainState,
    pub(crate) rng: TorchRng,
    pub(crate) timesteps: TimestepSampler,
    pub(crate) position: Position,
    /// Settings that are not those of the checkpoint.
    pub(crate) changes: Vec<String>,
    /// What makes the run another one than it would have been.
    pub(crate) warnings: Vec<String>,
}

/// Loads the newest of `checkpoints`, which is at `path`, if it fits `config`.
pub(crate) fn resume(
    checkpoints: &CheckpointFolder,
    path: &Path,
    config: &TrainConfig,
    metadata: &CheckpointMetadata,
    model: &Latte,
    data: &DatasetFingerprint,
) -> Result<Resumed> {
    let Checkpoint { state, run, config: old, metadata: saved } = whole(checkpoints, path, Checkpoint::load(path))?;
    let same = [
        ("the list of classes", saved.classes == metadata.classes),
        ("the model", saved.model == metadata.model),
        ("`diffusion`", old.diffusion == metadata.diffusion),
        // Where it lies does not matter.
        (
            "the autoencoder",
            saved.autoencoder.kind == metadata.autoencoder.kind && same_vae(saved.vae.as_ref(), metadata.vae.as_ref()),
        ),
    ];
    if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
        let what = format!("{what} is another one than this configuration's; put it back, or set another `output.run`");
        return Err(Error::checkpoint(path, what));
    }
    whole(checkpoints, path, model.check(&state.weights).map_err(|what| Error::checkpoint(path, what)))?;
    let mut warnings = Vec::new();
    let drawn = |c: &TrainConfig| {
        (c.train.seed, c.train.batch_size, c.train.gradient_accumulation_steps, c.data.joint_images, c.autoencoder.posterior)
    };
    if drawn(&old) != drawn(config) {
        let what = "seed, batch size, accumulation, joint images or posterior differ from the checkpoint's";
        warnings.push(format!("{what}: the run resumes, but not as it would have continued"));
    }
    let position = position(run.position, &run.data, data, &mut warnings);
    let timesteps = match (config.train.timestep_sampler == old.train.timestep_sampler, run.timesteps) {
        (true, learnt) => learnt,
        (false, _) => TimestepSampler::new(config.train.timestep_sampler, config.diffusion.num_timesteps),
    };
    let (rng, changes) = (TorchRng::from_state(&run.rng)?, changes(&old.to_toml()?, &config.to_toml()?));
    Ok(Resumed { state, rng, timesteps, position, changes, warnings })
}

/// What came of reading the newest of `checkpoints`, which is at `path`. Where it cannot be read, the error says from which one the
/// run can go on.
pub(crate) fn whole<T>(checkpoints: &CheckpointFolder, path: &Path, read: Result<T>) -> Result<T> {
    let cause = match read {
        Ok(whole) => return Ok(whole),
        // It is whole, and of no use to this program.
        Err(newer @ Error::Latte(latte_model::Error::NewerLayout { .. })) => return Err(newer),
        Err(e) => e.to_string(),
    };
    // Nobody has another copy of it.
    let cause = match cause.rsplit_once("; ") {
        Some((cause, advice)) if advice.ends_with("copy it again") => cause,
        _ => &cause,
    };
    Err(Error::checkpoint(path, format!("the newest checkpoint cannot be read ({cause}); {}", checkpoints.way_on_without(path)?)))
}

/// The next clip. Where the videos are others, their order begins anew.
pub(crate) fn position(
    saved: Position,
    then: &DatasetFingerprint,
    now: &DatasetFingerprint,
    warnings: &mut Vec<String>,
) -> Position {
    if then == now {
        return saved;
    }
    warnings.push(format!(
        "the videos are no longer those of the checkpoint ({} then, {} now): the order of clips starts anew",
        then.num_videos, now.num_videos
    ));
    Position { epoch: saved.epoch + 1, index: 0 }
}

/// Every key of two configurations, both written out in full, that has another value in `new` than in `old`.
pub(crate) fn changes(old: &str, new: &str) -> Vec<String> {
    let flat = |text: &str| {
        let mut keys = Vec::new();
        flatten("", &text.parse::<Table>().unwrap_or_default(), &mut keys);
        keys
    };
    let (old, new) = (flat(old), flat(new));
    let find = |keys: &[(String, Value)], key: &str| keys.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    let mut names: Vec<&String> = old.iter().chain(&new).map(|(key, _)| key).collect();
    names.sort();
    names.dedup();
    let shown = |value: Option<Value>| value.map_or_else(|| "not set".to_string(), |value| value.to_string());
    let change = |key: &String| {
        let (before, after) = (find(&old, key), find(&new, key));
        (before != after).then(|| format!("{key}: {} → {} (changed since the checkpoint)", shown(before), shown(after)))
    };
    names.into_iter().filter_map(change).collect()
}

/// All keys of a table with their values, as `section.key`.
fn flatten(prefix: &str, table: &Table, keys: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&name, inner, keys),
            value => keys.push((name, value.clone())),
        }
    }
}

fn same_vae(one: Option<&AutoencoderFingerprint>, other: Option<&AutoencoderFingerprint>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_key_is_named_with_both_values() {
        let old = "[train]\nmax_steps = 10\nseed = 1\n[data]\npath = \"a\"\nindex = \"i\"\n[optimizer]\nbetas = [0.9, 0.99]\n";
        let new =
            "[train]\nmax_steps = 20\nseed = 1\n[data]\npath = \"a\"\n[validation]\nevery = 5\n[optimizer]\nbetas = [0.9, 0.9]\n";
        let changes = changes(old, new);
        let changes: Vec<&str> = changes.iter().filter_map(|line| line.strip_suffix(" (changed since the checkpoint)")).collect();
        let expected = [
            "data.index: \"i\" → not set",
            "optimizer.betas: [0.9, 0.99] → [0.9, 0.9]",
            "train.max_steps: 10 → 20",
            "validation.every: not set → 5",
        ];
        assert_eq!(changes, expected);
        assert!(super::changes(old, old).is_empty());
    }
}
