//! What a run reports while it trains. This crate prints nothing itself.

use std::path::Path;
use std::time::{Duration, Instant};

use latte_progress::{NoProgress, Progress};

use crate::run::record::{EvaluationRecord, StepRecord, ValidationRecord};

/// A step that has been done.
#[derive(Debug, Clone, PartialEq)]
pub struct StepEvent {
    /// The line of `metrics.jsonl`.
    pub record: StepRecord,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// Optimiser steps per second since the run was started or resumed.
    pub mean_steps_per_s: f64,
    /// The time that the remaining steps take at that speed.
    pub time_left: Duration,
}

impl StepEvent {
    /// The event of `record`, of a run of `max_steps` that started or resumed after step `first` at `started`.
    pub(crate) fn new(record: StepRecord, max_steps: u64, first: u64, started: Instant) -> Self {
        let done = record.step;
        let mean_steps_per_s = (done - first) as f64 / started.elapsed().as_secs_f64();
        let time_left = Duration::try_from_secs_f64((max_steps - done) as f64 / mean_steps_per_s).unwrap_or(Duration::MAX);
        Self { record, max_steps, mean_steps_per_s, time_left }
    }
}

/// Receives what happens during a run, whose stages are [`Stage::Validation`](latte_progress::Stage::Validation),
/// [`Stage::Samples`](latte_progress::Stage::Samples) and [`Stage::EvaluationClips`](latte_progress::Stage::EvaluationClips). Every method
/// does nothing unless it is written.
pub trait TrainingProgress: Progress {
    /// An optimiser step has been done and recorded.
    fn step(&mut self, event: &StepEvent) {
        let _ = event;
    }

    /// The loss on data that is not trained on has been measured and recorded.
    fn validation(&mut self, record: &ValidationRecord) {
        let _ = record;
    }

    /// Clips from the averaged weights have been evaluated, and the scores recorded.
    fn evaluation(&mut self, record: &EvaluationRecord) {
        let _ = record;
    }

    /// A checkpoint is on disk.
    fn checkpoint(&mut self, step: u64, path: &Path) {
        let _ = (step, path);
    }

    /// The samples of `step` are on disk, in `folder`.
    fn samples(&mut self, step: u64, folder: &Path) {
        let _ = (step, folder);
    }
}

impl TrainingProgress for NoProgress {}
