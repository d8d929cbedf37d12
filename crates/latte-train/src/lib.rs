//! Trains latte models on folders of video files.
//!
//! A run is a [`TrainConfig`] and a folder. [`Trainer::open`] looks at the data and at what the folder already holds, and
//! [`Trainer::run`] trains: threads decode ahead ([`Loader`]), chance decides times, noise and dropped labels, and
//! [`Stepper::step`] does the rest. The run folder gets `metrics.jsonl` and `checkpoints/`; a run that was killed goes on from
//! its newest checkpoint and ends with the same weights, bit for bit.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//!
//! use latte_train::{Silent, Start, TrainConfig, Trainer};
//!
//! # fn main() -> latte_train::Result<()> {
//! let config = TrainConfig::load("configs/tiny.toml".as_ref(), &["train.max_steps=100".into()])?;
//! let mut trainer = Trainer::open(config, Start::Auto)?;
//! let outcome = trainer.run(&AtomicBool::new(false), &mut Silent)?;
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod checkpoint_folder;
mod config;
mod dataset;
mod draw;
mod error;
mod loader;
mod lr;
mod observer;
mod pretrained;
mod record;
mod state;
mod step;
mod trainer;
mod vae_training;

pub use checkpoint::{Checkpoint, DataMark, ModelCard, RunState, find_weights, load_weights};
pub use checkpoint_folder::CheckpointFolder;
pub use config::source::apply_override;
pub use config::{
    AutoencoderConfig, AutoencoderKind, ConditionKind, DataConfig, DecoderChoice, FrameSize, InitConfig, InitFrom, LoopConfig,
    MatrixPrecision, ModelConfig, OptimizerConfig, OutputConfig, Recompute, TrainConfig, Transform,
};
pub use dataset::{FolderSource, VideoFolder};
pub use error::{Error, Result};
pub use loader::{ClipFrames, ClipSource, LoadedClip, Loader, Position};
pub use lr::{Decay, LrSchedule};
pub use observer::{Observer, Silent, StepEvent};
pub use pretrained::load_pretrained;
pub use record::{StepRecord, read_metrics};
pub use state::{TrainState, clip_scale};
pub use step::{MicroBatch, StepGradients, Stepper};
pub use trainer::{Outcome, Start, Trainer};
pub use vae_training::{
    Reconstruction, VaeGradients, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeNetwork, VaeOutcome, VaeReport, VaeRunState,
    VaeStepRecord, VaeStepper, VaeTrainConfig, VaeTrainer, ValidationConfig,
};
