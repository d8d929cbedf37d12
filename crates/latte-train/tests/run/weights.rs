//! What a run has learnt, to compare runs.

use std::path::Path;

use latte_model::checkpoint::CheckpointFolder;
use latte_ops::Parameters;
use latte_train::Checkpoint;

/// The bits of all values, in the order of the parameters.
pub(crate) fn bits(set: &Parameters) -> Vec<u32> {
    let flat = |t: &latte_ops::Value| t.to_host().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    set.iter().flat_map(|(_, t)| flat(t)).map(f32::to_bits).collect()
}

/// The newest checkpoint of `run`.
pub(crate) fn last_checkpoint(run: &Path) -> Checkpoint {
    Checkpoint::load(&CheckpointFolder::of_run(run).latest().unwrap().unwrap()).unwrap()
}
