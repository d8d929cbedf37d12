//! The progress of a generation. This crate prints nothing itself.

use latte_model::sampling::StepReport;
use latte_progress::{NoProgress, OneOf, Progress, Stage};

/// A text of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextOf {
    /// The prompt.
    Prompt,
    /// The negative prompt.
    NegativePrompt,
}

/// Receives the progress of a generation, whose stages are [`Stage::EncodingText`], [`Stage::Denoising`] and [`Stage::Decoding`].
/// Every method has a default.
pub trait GenerationProgress: Progress {
    /// A prediction is complete. The report has x and the predicted x0, a preview of the result in the model's space.
    fn predicted(&mut self, report: &StepReport) {
        let _ = report;
    }

    /// Part of a text of clip `clip` (its index in the call) was left out: it is too long, or in a script that the tokenizer does
    /// not know. `what` describes the part. Default: a warning.
    fn text_left_out(&mut self, clip: usize, text: TextOf, what: &str) {
        let name = match text {
            TextOf::Prompt => "prompt",
            TextOf::NegativePrompt => "negative prompt",
        };
        self.warning(&format!("{name} of clip {}: {what}", clip + 1));
    }
}

impl GenerationProgress for NoProgress {}

impl<P: GenerationProgress + ?Sized> GenerationProgress for OneOf<'_, P> {
    fn predicted(&mut self, report: &StepReport) {
        self.all.predicted(report);
    }

    fn text_left_out(&mut self, _: usize, text: TextOf, what: &str) {
        self.all.text_left_out(self.index, text, what);
    }
}

/// Reports each prediction of a sampler to `progress`.
pub(crate) fn on_step(progress: &mut dyn GenerationProgress) -> impl FnMut(&StepReport) {
    |report| {
        progress.stage(Stage::Denoising, report.done as u64, report.num_steps as u64);
        progress.predicted(report);
    }
}
