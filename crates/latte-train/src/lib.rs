//! Trains latte models on folders of video files.
//!
//! A run is a [`TrainConfig`] and a folder. [`tasks::class()`] opens its data and network, [`Trainer::open`] reads the run folder and
//! initialises or loads the weights, and [`Trainer::run`] trains: threads decode ahead ([`Loader`]), the [`Task`] draws times,
//! noise and dropped labels and computes the gradient, and the trainer updates the weights. The run folder gets `metrics.jsonl` and
//! `checkpoints/`; a run that was killed resumes from its newest checkpoint and ends with the same weights, bit for bit. [`Hook`]s
//! write validation losses, samples and scores; `tensorboard/` has the event files; [`RunSummary`] reads all of it.
//!
//! ```no_run
//! use latte_ops::CancelToken;
//! use latte_train::{NoProgress, Start, TrainConfig, Trainer, tasks};
//!
//! # fn main() -> latte_train::Result<()> {
//! let config = TrainConfig::load("configs/tiny.toml".as_ref(), &["train.max_steps=100".into()])?;
//! let mut trainer = Trainer::open(tasks::class(config)?, Start::Auto)?;
//! let outcome = trainer.run(&CancelToken::new(), &mut NoProgress)?;
//! # Ok(())
//! # }
//! ```

mod config;
mod data;
mod engine;
mod error;
mod estimate;
mod hooks;
mod run;
pub mod tasks;

pub use config::source::apply_override;
pub use config::{
    ActivationCheckpointing, ConditionKind, DataConfig, DecoderChoice, EvaluationConfig, FrameSize, InitConfig, InitFrom,
    LoopConfig, ModelConfig, OptimizerConfig, OutputConfig, RunConfig, SamplesConfig, TrainConfig, TranslatedKey, Translation,
    ValidationConfig,
};
pub use data::check::{DataCheck, check_data};
pub use data::fingerprint::DatasetFingerprint;
pub use data::latents::{CacheHeader, EncodeOptions, EncodeReport, LatentCache, Manifest, MomentDtype, VideoRecord, encode};
pub use data::loader::{ClipFrames, ClipSource, EpochPlace, LoadedClip, Loader, Position};
pub use data::source::{
    EpochOrder, ListedData, OpenedData, Split, VideoSource, Window, WindowRule, list_data, open_data, open_data_on,
};
pub use engine::checkpoint::{Checkpoint, RunState};
pub use engine::gradients::StepGradients;
pub use engine::pace::long_run;
pub use engine::progress::{StepEvent, TrainingProgress};
pub use engine::resume::Start;
pub use engine::saved::Saved;
pub use engine::schedule::{Decay, LrSchedule};
pub use engine::state::TrainState;
pub use engine::task::{Prepared, Task};
pub use engine::trainer::{Outcome, Trainer};
pub use error::{Error, Result};
pub use estimate::{Estimate, MemoryMeter, Portion, estimate};
pub use hooks::evaluation::{Evaluator, Scores};
pub use hooks::events::{EncodedImage, EventWriter, RunEvents};
pub use hooks::{Hook, Weights};
pub use latte_ops::CancelToken;
pub use latte_progress::{NoProgress, Progress, Stage};
pub use run::loss_parts::LossParts;
pub use run::record::{EvaluationRecord, StepRecord, ValidationRecord, read_evaluations, read_metrics, read_validation};
pub use run::status::{Phase, RunStatus};
pub use run::summary::{RunCondition, RunSummary, ScoreAt, ScoreSummary, find_runs};
pub use tasks::autoencoder::{
    Reconstruction, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeReport, VaeStepper, VaeTrainConfig, VaeValidationConfig,
};
pub use tasks::class::labels::Labels;
pub use tasks::denoising::step::{Condition, MicroBatch, Network, Noisy, Stepper};
pub use tasks::text_to_video::network::{TextToVideoNetwork, Texts};
