//! What a generation reports while it runs. This crate prints nothing itself.

use latte_model::sampling::StepReport;
use latte_progress::{NoProgress, OneOf, Progress, Stage};

/// Which text of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextOf {
    /// The prompt.
    Prompt,
    /// The negative prompt.
    NegativePrompt,
}

/// Receives the progress of a generation, whose stages are [`Stage::EncodingText`], [`Stage::Denoising`] and [`Stage::Decoding`]. Every
/// method does nothing unless it is written.
pub trait GenerationProgress: Progress {
    /// A prediction is done: x, and the x0 that it leads to, a preview of the result in the model's space.
    fn predicted(&mut self, report: &StepReport) {
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

/// Reports each prediction of a sampler.
pub(crate) fn on_step(progress: &mut dyn GenerationProgress) -> impl FnMut(&StepReport) {
    |report| {
        progress.stage(Stage::Denoising, report.done as u64, report.num_steps as u64);
        progress.predicted(report);
    }
}
