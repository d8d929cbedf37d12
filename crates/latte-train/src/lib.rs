//! Trains latte models on folders of video files.

mod checkpoint_folder;
mod config;
mod error;
mod loader;
mod lr;
mod record;

pub use checkpoint_folder::CheckpointFolder;
pub use config::source::{apply_override, from_table, parse_table};
pub use error::{Error, Result};
pub use loader::{ClipSource, LoadedClip, Loader, Position};
pub use lr::{Decay, LrSchedule};
pub use record::{StepRecord, read_metrics};
