//! What a generation reports while it runs. This crate prints nothing itself.

use latte_model::sampling::StepReport;

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
    /// `done` of `total` parts of `stage` are done; a stage begins with 0. Of several clips that are made together, the parts of all are counted.
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
