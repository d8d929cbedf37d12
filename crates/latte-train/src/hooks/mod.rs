//! What is made of a run's weights on the way: validation losses, samples, scores, TensorBoard's event files.

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

/// The weights that a hook makes something of.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// Their moving average.
    pub ema: &'a Parameters,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
}

/// Makes something of a run's weights, such as samples.
///
/// It must draw from no generator of the run and change no weight: a run ends with the same bits with and without it.
pub trait Hook: fmt::Debug {
    /// Opens what it writes to, of a run after `step` optimiser steps. What was written for later steps is dropped: the run will do
    /// them again. Returns warnings.
    ///
    /// # Errors
    ///
    /// If what it writes to cannot be opened.
    fn begin(&mut self, step: u64) -> Result<Vec<String>>;

    /// Makes what is due and not made yet. Returns false where `stop` ended it early: the run makes it up when it resumes.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written; the run warns, and continues without it.
    fn run(
        &mut self,
        now: Weights<'_>,
        stop: &CancelToken,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<bool>;

    /// What a warning says of a failure, such as `samples could not be made`.
    fn what_is_missing(&self) -> &'static str;

    /// Waits until its logs are on disk.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
