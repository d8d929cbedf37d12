//! Weights on disk, with the metadata needed to sample from them.
//!
//! A run folder has a folder of checkpoints ([`CheckpointFolder`]); each holds `model.safetensors`, `ema.safetensors` and the state
//! that training needs to resume. The metadata of a weights file ([`CheckpointMetadata`]) has everything that sampling needs.

mod assumed;
mod folder;
mod load;
mod metadata;

pub use assumed::{AssumedMetadata, StatedMetadata, load_pretrained};
pub use folder::{CheckpointFolder, STATE_FILE};
pub use load::{LoadedWeights, find_weights, load_weights, open_weights};
pub use metadata::{CheckpointMetadata, FORMAT, check_format, not_understood};

/// The weights of a checkpoint.
pub const MODEL_FILE: &str = "model.safetensors";
/// The moving average of the weights; its metadata has everything that sampling needs.
pub const EMA_FILE: &str = "ema.safetensors";
