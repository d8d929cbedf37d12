//! The loop of a training run: state, learning rate, checkpoints and resuming.

pub(crate) mod checkpoint;
pub(crate) mod checkpoint_folder;
pub(crate) mod gradients;
pub(crate) mod pace;
pub(crate) mod progress;
pub(crate) mod resume;
pub(crate) mod saved;
pub(crate) mod schedule;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod trainer;
