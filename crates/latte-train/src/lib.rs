//! Trains latte models on folders of video files.
//!
//! A run is a [`TrainConfig`] and a folder. [`Trainer::open`] looks at the data and at what the folder already holds, and
//! [`Trainer::run`] trains: threads decode ahead ([`Loader`]), chance decides times, noise and dropped labels, and
//! [`Stepper::step`] does the rest. The run folder gets `metrics.jsonl` and `checkpoints/`; a run that was killed resumes from
//! its newest checkpoint and ends with the same weights, bit for bit. Beside them lie what there is to look at meanwhile:
//! `tensorboard/`, `samples/`, and what [`RunSummary`] reads.
//!
//! ```no_run
//! use latte_ops::CancelToken;
//! use latte_train::{NoProgress, Start, TrainConfig, Trainer};
//!
//! # fn main() -> latte_train::Result<()> {
//! let config = TrainConfig::load("configs/tiny.toml".as_ref(), &["train.max_steps=100".into()])?;
//! let mut trainer = Trainer::open(config, Start::Auto)?;
//! let outcome = trainer.run(&CancelToken::new(), &mut NoProgress)?;
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod checkpoint_folder;
mod config;
mod data_check;
mod error;
mod estimate;
mod evaluation;
mod events;
mod latents;
mod loader;
mod lr;
mod noising;
mod observer;
mod pace;
mod record;
mod resume;
mod run_reporter;
mod run_summary;
mod sample_batch;
mod source;
mod state;
mod status;
mod step;
mod trainer;
mod vae_training;
mod validation;

pub use checkpoint::{Checkpoint, DatasetFingerprint, RunState};
pub use config::source::apply_override;
pub use config::{
    ActivationCheckpointing, ConditionKind, DataConfig, DecoderChoice, EvaluationConfig, FrameSize, InitConfig, InitFrom,
    LoopConfig, ModelConfig, OptimizerConfig, OutputConfig, SamplesConfig, TrainConfig, TranslatedKey, Translation,
    ValidationConfig,
};
pub use data_check::{DataCheck, check_data};
pub use error::{Error, Result};
pub use estimate::{Estimate, MemoryMeter, Portion, estimate};
pub use evaluation::{Evaluator, Scores};
pub use events::{EncodedImage, EventWriter};
pub use latents::{
    CacheHeader, EncodeOptions, EncodeProgress, EncodeReport, LatentCache, Manifest, MomentDtype, VideoRecord, encode,
};
pub use loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip, Loader, Position};
pub use lr::{Decay, LrSchedule};
pub use observer::{NoProgress, Observer, StepEvent};
pub use pace::long_run;
pub use record::{EvaluationRecord, StepRecord, ValidationRecord, read_evaluations, read_metrics, read_validation};
pub use resume::Start;
pub use run_summary::{RunCondition, RunSummary, ScoreAt, ScoreSummary, find_runs};
pub use source::{EpochOrder, ListedData, OpenedData, Split, VideoSource, Window, WindowRule, list_data, open_data};
pub use state::{TrainState, clip_scale};
pub use status::{Phase, RunStatus};
pub use step::{MicroBatch, StepGradients, Stepper};
pub use trainer::{Outcome, Trainer};
pub use vae_training::{
    Reconstruction, VaeGradients, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeOutcome, VaeReport, VaeRunState,
    VaeStepRecord, VaeStepper, VaeTrainConfig, VaeTrainer, VaeValidationConfig,
};
