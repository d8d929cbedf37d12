//! Scores of clips from the averaged weights, during the run. This crate computes no score itself: the caller passes an
//! [`Evaluator`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use latte::{ClassModelConfig, SamplingParams};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Parameters, Precision};
use latte_video::Clip;

use crate::config::{EvaluationConfig, TrainConfig};
use crate::engine::observer::Observer;
use crate::error::{Error, Result};
use crate::hooks::sample_batch::SampleBatch;
use crate::run::record::{EvaluationRecord, RunLog};

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
    /// The evaluation that `of` describes, of a run after `step` optimiser steps.
    pub(crate) fn new(
        config: &TrainConfig,
        of: &EvaluationConfig,
        metadata: &CheckpointMetadata,
        evaluator: Box<dyn Evaluator>,
        step: u64,
    ) -> Result<Self> {
        let log = RunLog::open(&config.output.run.join("evaluation.jsonl"), step)?;
        let evaluation = Self {
            autoencoder: config.autoencoder.open()?,
            precision: config.train.precision,
            config: of.clone(),
            metadata: metadata.clone(),
            evaluator,
            log,
        };
        let model = ClassModelConfig::new(metadata, Arc::clone(&evaluation.autoencoder));
        let batch = evaluation.batch();
        model.check(&batch.requests[0].params, batch.first_class()).map_err(|e| match e {
            latte::Error::Config { key, problem } => Error::config("configuration", format!("evaluation.{key}"), problem),
            other => other.into(),
        })?;
        Ok(evaluation)
    }

    /// Whether the weights of `step` of `max_steps` are to be evaluated, and are not yet.
    pub(crate) fn is_due(&self, step: u64, max_steps: u64) -> bool {
        let due = if step == 0 { self.config.at_start } else { step.is_multiple_of(self.config.every) || step == max_steps };
        due && self.log.last_step() != Some(step)
    }

    /// Evaluates the weights of `step`. If `stop` is set before the clips are complete, there is no score; the run evaluates this step
    /// when it resumes.
    ///
    /// # Errors
    ///
    /// If clips cannot be generated or scored, or the scores cannot be written.
    pub(crate) fn evaluate(
        &mut self,
        step: u64,
        ema: &Parameters,
        stop: &CancelToken,
        observer: &mut dyn Observer,
    ) -> Result<Option<EvaluationRecord>> {
        let mut on_step = |done, total| observer.evaluating(step, done, total);
        let Some(made) = self.batch().make(&self.metadata, &self.autoencoder, ema, stop, &mut on_step)? else { return Ok(None) };
        let clips = made.into_iter().map(|made| made.clip).collect();
        let mut scores = self.evaluator.evaluate(clips).map_err(Error::Evaluator)?;
        // JSON has no such numbers: a log with one could not be read again.
        scores.retain(|name, value| {
            if !value.is_finite() {
                observer.warning(&format!("step {step}: the score {name} is {value}, and is not recorded"));
            }
            value.is_finite()
        });
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let record = EvaluationRecord { step, clips: self.config.num, scores, time };
        self.log.append(&record)?;
        observer.evaluation(&record);
        Ok(Some(record))
    }

    /// Waits until the scores are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    fn batch(&self) -> SampleBatch {
        let EvaluationConfig { sampler, steps, guidance, frames, .. } = self.config;
        let params = SamplingParams { sampler, steps, guidance, frames, precision: self.precision, ..SamplingParams::default() };
        SampleBatch::new(&self.metadata, &params, self.config.num as u64, self.config.seed, 1)
    }
}
