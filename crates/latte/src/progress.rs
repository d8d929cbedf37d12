//! What a generation reports while it runs. This crate prints nothing itself.

use std::ops::ControlFlow;

use latte_model::sampling::StepReport;
use latte_ops::CancelToken;

/// The parts of a generation, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The text encoder reads the prompts, layer by layer.
    EncodingText,
    /// The sampler goes from noise to latents, prediction by prediction.
    Denoising,
    /// The autoencoder makes pixels of latents, frame by frame.
    Decoding,
}

/// Which text of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextOf {
    /// The prompt.
    Prompt,
    /// The negative prompt.
    NegativePrompt,
}

/// Receives the progress of a generation. Every method does nothing unless it is written.
pub trait Progress {
    /// `done` of `total` parts of `stage` are done. Text to video also reports 0 when a stage begins. The parts of clips that are made
    /// together are counted together.
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// A prediction is done: x, and the x0 that it leads to, a preview of the result in the model's space.
    fn step(&mut self, report: &StepReport) {
        let _ = report;
    }

    /// Part of a text of clip `clip` (its place among those that are made together) is not read: it is too long, or in a script that the
    /// tokenizer does not know. `what` says which part. A warning, unless it is written otherwise.
    fn text_left_out(&mut self, clip: usize, text: TextOf, what: &str) {
        let name = match text {
            TextOf::Prompt => "prompt",
            TextOf::NegativePrompt => "negative prompt",
        };
        self.warning(&format!("{name} of clip {}: {what}", clip + 1));
    }

    /// Something worth knowing, such as which of several sets of weights was taken.
    fn note(&mut self, message: &str) {
        let _ = message;
    }

    /// Something is wrong that the work can live with, such as a cache that cannot be written.
    fn warning(&mut self, message: &str) {
        let _ = message;
    }
}

/// Progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}

/// The progress of one clip among several that are made one after the other: its parts are counted with those of the others.
pub(crate) struct OneOf<'p> {
    /// Its place among them, from 0.
    pub(crate) index: usize,
    /// How many they are.
    pub(crate) clips: usize,
    pub(crate) all: &'p mut dyn Progress,
}

impl Progress for OneOf<'_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        self.all.stage(stage, self.index as u64 * total + done, self.clips as u64 * total);
    }

    fn step(&mut self, report: &StepReport) {
        self.all.step(report);
    }

    fn text_left_out(&mut self, _: usize, text: TextOf, what: &str) {
        self.all.text_left_out(self.index, text, what);
    }

    fn note(&mut self, message: &str) {
        self.all.note(message);
    }

    fn warning(&mut self, message: &str) {
        self.all.warning(message);
    }
}

/// Reports each prediction of a sampler, and stops the sampler once `cancel` is cancelled.
pub(crate) fn on_step(progress: &mut dyn Progress, cancel: &CancelToken) -> impl FnMut(&StepReport) -> ControlFlow<()> {
    |report| {
        progress.stage(Stage::Denoising, report.done as u64, report.num_steps as u64);
        progress.step(report);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
