//! Scores of clips from the averaged weights, during the run. This crate computes no score itself: the caller passes an
//! [`Evaluator`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use latte::{ClassModelConfig, SamplingParams};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Precision};
use latte_progress::Stage;
use latte_video::Clip;

use super::events::RunEvents;
use super::sample_batch::SampleBatch;
use super::{Hook, Weights};
use crate::config::{EvaluationConfig, TrainConfig};
use crate::engine::progress::TrainingProgress;
use crate::error::{Error, Result};
use crate::run::record::{EvaluationRecord, RunLog};
use crate::run::status::now;

/// Scores by their names, such as `i3d_fvd`.
pub type Scores = BTreeMap<String, f64>;

/// Scores clips. It must draw from no generator of the run.
pub trait Evaluator {
    /// The scores of `clips`, by name.
    ///
    /// # Errors
    ///
    /// If they cannot be scored.
    fn evaluate(&mut self, clips: Vec<Clip>) -> std::result::Result<Scores, Box<dyn std::error::Error + Send + Sync>>;
}

/// Generates clips from the averaged weights, and has them scored.
pub(crate) struct Evaluation {
    config: EvaluationConfig,
    metadata: CheckpointMetadata,
    autoencoder: Arc<dyn Autoencoder>,
    precision: Precision,
    evaluator: Box<dyn Evaluator>,
    log: RunLog<EvaluationRecord>,
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluation").field("config", &self.config).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Evaluation {
    /// The evaluation for `[evaluation]`, after a check that such clips can be generated.
    pub(crate) fn new(
        config: &TrainConfig,
        of: &EvaluationConfig,
        metadata: &CheckpointMetadata,
        evaluator: Box<dyn Evaluator>,
    ) -> Result<Self> {
        let evaluation = Self {
            autoencoder: config.autoencoder.open()?,
            precision: config.train.precision,
            config: of.clone(),
            metadata: metadata.clone(),
            evaluator,
            log: RunLog::new(config.output.run.join("evaluation.jsonl")),
        };
        let model = ClassModelConfig::new(metadata, Arc::clone(&evaluation.autoencoder));
        let batch = evaluation.batch();
        model.check(&batch.requests[0].params, batch.first_class()).map_err(|e| match e {
            latte::Error::Config { key, problem } => Error::config("configuration", format!("evaluation.{key}"), problem),
            other => other.into(),
        })?;
        Ok(evaluation)
    }

    /// Whether the weights of `step` of `max_steps` should be evaluated and are not yet.
    fn is_due(&self, step: u64, max_steps: u64) -> bool {
        let due = if step == 0 { self.config.at_start } else { step.is_multiple_of(self.config.every) || step == max_steps };
        due && self.log.last_step() != Some(step)
    }

    fn batch(&self) -> SampleBatch {
        let EvaluationConfig { sampler, steps, guidance, frames, .. } = self.config;
        let params = SamplingParams { sampler, steps, guidance, frames, precision: self.precision, ..SamplingParams::default() };
        SampleBatch::new(&self.metadata, &params, self.config.num as u64, self.config.seed, 1)
    }
}

impl Hook for Evaluation {
    fn begin(&mut self, step: u64) -> Result<Vec<String>> {
        self.log.begin(step)?;
        Ok(Vec::new())
    }

    fn run(
        &mut self,
        weights: Weights<'_>,
        stop: &CancelToken,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<bool> {
        let Weights { ema, step, max_steps } = weights;
        if !self.is_due(step, max_steps) {
            return Ok(true);
        }
        let batch = self.batch();
        let Some(made) = batch.make(&self.metadata, &self.autoencoder, ema, stop, Stage::EvaluationClips, progress)? else {
            return Ok(false);
        };
        let clips = made.into_iter().map(|made| made.clip).collect();
        let mut scores = self.evaluator.evaluate(clips).map_err(Error::Evaluator)?;
        // JSON has no NaN or infinity: a log with one could not be read.
        scores.retain(|name, value| {
            if !value.is_finite() {
                progress.warning(&format!("step {step}: the score {name} is {value}, and is not recorded"));
            }
            value.is_finite()
        });
        let record = EvaluationRecord { step, clips: self.config.num, scores, time: now() };
        self.log.append(&record)?;
        let scalars: Vec<(String, f64)> =
            record.scores.iter().map(|(name, value)| (format!("evaluation/{name}"), *value)).collect();
        events.write(step, progress, |events| events.scalars(&scalars, step, record.time));
        progress.evaluation(&record);
        Ok(true)
    }

    fn what_is_missing(&self) -> &'static str {
        "clips could not be evaluated"
    }

    fn sync(&self) -> Result<()> {
        self.log.sync()
    }
}
