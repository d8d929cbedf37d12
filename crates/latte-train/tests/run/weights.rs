//! The newest checkpoint of a run.

use std::path::Path;

use latte_model::checkpoint::CheckpointFolder;
use latte_train::{Checkpoint, TrainConfig};

/// The newest checkpoint of `run`.
pub(crate) fn last_checkpoint(run: &Path) -> Checkpoint<TrainConfig> {
    Checkpoint::load(&CheckpointFolder::of_run(run).latest().unwrap().unwrap()).unwrap()
}
