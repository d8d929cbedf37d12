//! What the engine asks of a task: see [`Task`].

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

/// Something that can be trained: a network, its loss, and what chance decides about its clips.
///
/// [`Trainer`](super::trainer::Trainer) does the rest: it loads clips, takes optimiser steps, keeps the average, writes logs and
/// checkpoints, and resumes. A new kind of model is one file that implements this trait.
pub trait Task: fmt::Debug {
    /// The configuration of a run.
    type Config: RunConfig;
    /// The clips of one optimiser step, with everything that chance decides already decided.
    type Batch;
    /// What there is to tell when all steps are done.
    type Report: fmt::Debug;

    /// The configuration of this run, as it is saved beside checkpoints.
    fn config(&self) -> &Self::Config;

    /// How many clips an optimiser step takes.
    fn clips_per_step(&self) -> usize;

    /// The names of the parameters that training changes.
    fn trainable(&self) -> Vec<String>;

    /// The weights before the first step, and lines that say where they come from.
    ///
    /// # Errors
    ///
    /// If weights that the configuration names cannot be read.
    fn init(&self, rng: &mut TorchRng) -> Result<(Parameters, Vec<String>)>;

    /// Draws what chance decides about the clips of one optimiser step. The result must depend on the arguments and on what
    /// [`learn`](Self::learn) has learnt, and on nothing else.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    fn draw(&self, clips: Vec<LoadedClip>, rng: &mut TorchRng) -> Result<Self::Batch>;

    /// The gradient of the mean loss over all clips of a step, and that loss. Draws nothing.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    fn gradients(&self, weights: &Parameters, batch: &Self::Batch) -> Result<StepGradients>;

    /// Learns from a step that has been taken how to draw the next ones.
    ///
    /// # Errors
    ///
    /// If a loss cannot be learnt from.
    fn learn(&mut self, batch: &Self::Batch, found: &StepGradients) -> Result<()> {
        let _ = (batch, found);
        Ok(())
    }

    /// What [`learn`](Self::learn) has learnt, for the checkpoint.
    fn timesteps(&self) -> Option<&TimestepSampler> {
        None
    }

    /// What the files of weights and of their average say about the model after optimiser step `step`, in this order; `None` where
    /// they say nothing.
    ///
    /// # Errors
    ///
    /// If it has no JSON form.
    fn descriptions(&self, step: u64) -> Result<Option<[Value; 2]>> {
        let _ = step;
        Ok(None)
    }

    /// Continues the run of `saved`, or says why it cannot. `warnings` gets what makes the run another one than it would have been.
    ///
    /// # Errors
    ///
    /// If the checkpoint is of another model, or damaged.
    fn resume(&mut self, saved: &Saved<'_, Self::Config>, warnings: &mut Vec<String>) -> Result<()>;

    /// What is made of the weights on the way, in this order. Writes nothing.
    ///
    /// # Errors
    ///
    /// If the configuration asks for something that cannot be made.
    fn hooks(&mut self) -> Result<Vec<Box<dyn Hook>>> {
        Ok(Vec::new())
    }

    /// Makes of the averaged weights what the run is for, when all steps are done and saved.
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
    /// Gives the clips that are trained on.
    pub source: Box<dyn ClipSource>,
    /// Tells whether the data is still the same.
    pub data: DatasetFingerprint,
    /// Where the steps are taken.
    pub device: candle_core::Device,
    /// What the user should know about the data.
    pub warnings: Vec<String>,
}

impl<T: fmt::Debug> fmt::Debug for Prepared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("task", &self.task).field("data", &self.data).finish_non_exhaustive()
    }
}
