//! The loop of a training run: state, learning rate, checkpoints and resuming.

pub(crate) mod checkpoint;
pub(crate) mod checkpoint_folder;
pub(crate) mod lr;
pub(crate) mod observer;
pub(crate) mod pace;
pub(crate) mod resume;
pub(crate) mod state;
pub(crate) mod trainer;
