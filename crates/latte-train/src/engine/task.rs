//! The interface between the engine and what it trains: [`Task`].

use std::fmt;

use latte_model::diffusion::TimestepSampler;
use latte_model::noise::TorchRng;
use latte_ops::Parameters;
use serde_json::Value;

use super::gradients::StepGradients;
use super::saved::Saved;
use crate::config::RunConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::{ClipSource, LoadedClip};
use crate::error::Result;
use crate::hooks::Hook;

/// Something that can be trained: a network, its loss, and the random draws for its clips.
///
/// [`Trainer`](super::trainer::Trainer) does the rest: it loads clips, takes optimiser steps, keeps the average, writes logs and
/// checkpoints, and resumes. A new kind of model is one file that implements this trait.
pub trait Task: fmt::Debug {
    /// The configuration of a run.
    type Config: RunConfig;
    /// The clips of one optimiser step, with all random draws done.
    type Batch;
    /// The result of a finished run, besides its checkpoint.
    type Report: fmt::Debug;

    /// The configuration of this run, as it is saved beside checkpoints.
    fn config(&self) -> &Self::Config;

    /// How many clips an optimiser step takes.
    fn clips_per_step(&self) -> usize;

    /// The names of the parameters that training changes.
    fn trainable(&self) -> Vec<String>;

    /// The initial weights, and lines that say where they come from.
    ///
    /// # Errors
    ///
    /// If weights that the configuration names cannot be read.
    fn init(&self, rng: &mut TorchRng) -> Result<(Parameters, Vec<String>)>;

    /// Does the random draws for the clips of one optimiser step. The result must depend only on the arguments and on the state that
    /// [`learn`](Self::learn) updates.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    fn draw(&self, clips: Vec<LoadedClip>, rng: &mut TorchRng) -> Result<Self::Batch>;

    /// The mean loss over all clips of a step and its gradient. Deterministic.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    fn gradients(&self, weights: &Parameters, batch: &Self::Batch) -> Result<StepGradients>;

    /// Updates the state of [`draw`](Self::draw), such as a timestep sampler, after a step.
    ///
    /// # Errors
    ///
    /// If a loss is not usable.
    fn learn(&mut self, batch: &Self::Batch, found: &StepGradients) -> Result<()> {
        let _ = (batch, found);
        Ok(())
    }

    /// The timestep sampler that [`learn`](Self::learn) updates, for the checkpoint.
    fn timesteps(&self) -> Option<&TimestepSampler> {
        None
    }

    /// The descriptions of the model in the files of the weights and of their average after optimiser step `step`, in this order; `None`
    /// for no description.
    ///
    /// # Errors
    ///
    /// If a description has no JSON form.
    fn descriptions(&self, step: u64) -> Result<Option<[Value; 2]>> {
        let _ = step;
        Ok(None)
    }

    /// Checks that the run of `saved` can be continued, and restores the task's own state. `warnings` gets the changes that make the run differ
    /// from an uninterrupted one.
    ///
    /// # Errors
    ///
    /// If the checkpoint is of another model, or damaged.
    fn resume(&mut self, saved: &Saved<'_, Self::Config>, warnings: &mut Vec<String>) -> Result<()>;

    /// The hooks of the run, in the order in which they run. Writes nothing.
    ///
    /// # Errors
    ///
    /// If the configuration asks for a hook that cannot work.
    fn hooks(&mut self) -> Result<Vec<Box<dyn Hook>>> {
        Ok(Vec::new())
    }

    /// Makes the run's final result from the averaged weights, after all steps are done and saved.
    ///
    /// # Errors
    ///
    /// If it cannot be measured or written.
    fn finish(&self, ema: &Parameters) -> Result<Self::Report>;
}

/// A task with its data: what [`Trainer::open`](super::trainer::Trainer::open) begins with.
pub struct Prepared<T> {
    /// The task.
    pub task: T,
    /// The training clips.
    pub source: Box<dyn ClipSource>,
    /// Detects whether the data has changed.
    pub data: DatasetFingerprint,
    /// The device of the optimiser steps.
    pub device: candle_core::Device,
    /// What the user should know about the data.
    pub warnings: Vec<String>,
}

impl<T: fmt::Debug> fmt::Debug for Prepared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("task", &self.task).field("data", &self.data).finish_non_exhaustive()
    }
}
