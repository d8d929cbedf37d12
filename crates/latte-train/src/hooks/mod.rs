//! Hooks use a run's weights during training: for validation losses, samples and scores. Also TensorBoard's event files.

use std::fmt;

use latte_ops::{CancelToken, Parameters};

use crate::engine::progress::TrainingProgress;
use crate::error::Result;
use events::RunEvents;

pub(crate) mod evaluation;
pub(crate) mod events;
pub(crate) mod sample_batch;
pub(crate) mod samples;
pub(crate) mod validation;

/// The weights that a hook receives.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// Their moving average.
    pub ema: &'a Parameters,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
}

/// Uses a run's weights during training, for example to generate samples.
///
/// A hook must not draw from a generator of the run or change a weight: a run ends with the same bits with and without it.
pub trait Hook: fmt::Debug {
    /// Opens its outputs when a run starts after `step` optimiser steps. Drops what was written for later steps, because the run
    /// repeats them. Returns warnings.
    ///
    /// # Errors
    ///
    /// If an output cannot be opened.
    fn begin(&mut self, step: u64) -> Result<Vec<String>>;

    /// Does the work that is due and not done yet. Returns false if `stop` ended it early: the run does it when it resumes.
    ///
    /// # Errors
    ///
    /// If the work fails or its result cannot be written; the run reports a warning and continues.
    fn run(
        &mut self,
        weights: Weights<'_>,
        stop: &CancelToken,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<bool>;

    /// The beginning of the warning about a failure, such as `samples could not be made`.
    fn what_is_missing(&self) -> &'static str;

    /// Waits until its outputs are on disk.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
