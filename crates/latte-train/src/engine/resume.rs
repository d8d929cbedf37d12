//! Resuming: chooses the checkpoint, checks it against the configuration, and lists the settings that have changed.

use std::path::{Path, PathBuf};

use latte_model::checkpoint::CheckpointFolder;
use latte_model::noise::TorchRng;
use toml::{Table, Value};

use super::checkpoint::Checkpoint;
use super::saved::Saved;
use super::state::TrainState;
use super::task::Task;
use crate::config::RunConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::Position;
use crate::error::{Error, Result};

/// Where a run starts.
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

/// The checkpoint to resume from, if `start` asks for one and there is one.
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

/// The state in which a run resumes.
pub(crate) struct Resumed {
    pub(crate) state: TrainState,
    pub(crate) rng: TorchRng,
    pub(crate) position: Position,
    /// One line for each setting that differs from the checkpoint's.
    pub(crate) changes: Vec<String>,
}

/// Loads the newest of `checkpoints`, which is at `path`, if it fits `task` and its configuration.
pub(crate) fn resume<T: Task>(
    checkpoints: &CheckpointFolder,
    path: &Path,
    task: &mut T,
    data: &DatasetFingerprint,
    warnings: &mut Vec<String>,
) -> Result<Resumed> {
    let saved = Saved::load(checkpoints, path)?;
    task.resume(&saved, warnings)?;
    let Checkpoint { state, run, config: old, .. } = saved.checkpoint;
    let position = position(run.position, &run.data, data, warnings);
    let changes = changes(&old.to_toml()?, &task.config().to_toml()?);
    Ok(Resumed { state, rng: TorchRng::from_state(&run.rng)?, position, changes })
}

/// The position of the next clip. If the videos have changed, their order starts again.
fn position(saved: Position, then: &DatasetFingerprint, now: &DatasetFingerprint, warnings: &mut Vec<String>) -> Position {
    if then == now {
        return saved;
    }
    warnings.push(format!(
        "the videos are no longer those of the checkpoint ({} then, {} now): the order of clips starts anew",
        then.num_videos, now.num_videos
    ));
    Position { epoch: saved.epoch + 1, index: 0 }
}

/// One line for each key whose value differs between two configurations, both written out in full.
fn changes(old: &str, new: &str) -> Vec<String> {
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
