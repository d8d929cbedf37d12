//! Shows the progress of long work: a progress line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use latte_progress::{Progress, Stage};
use latte_train::{EvaluationRecord, StepEvent, TrainingProgress, ValidationRecord};

use crate::terminal::{note, say};

/// The time between two plain lines, so that a log stays short.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress of a training run.
#[derive(Debug)]
pub(crate) struct RunProgress {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    /// Loss and gradient norm, smoothed over about 20 steps.
    smooth: Option<(f64, f64)>,
}

impl RunProgress {
    pub(crate) fn new(max_steps: u64) -> Self {
        Self { bar: bar(max_steps, "{wide_bar} {pos}/{len}  {msg}"), last_line: None, smooth: None }
    }

    /// Removes the progress line.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }
}

impl Progress for RunProgress {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        let text = format!("{}: {} %", stage.name(), 100 * done / total.max(1));
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            note(&text);
        }
    }

    fn note(&mut self, message: &str) {
        self.print(message);
    }

    fn warning(&mut self, message: &str) {
        self.print(&format!("warning: {message}"));
    }
}

impl TrainingProgress for RunProgress {
    fn step(&mut self, event: &StepEvent) {
        let record = &event.record;
        let (loss, norm) = self.smooth.unwrap_or((record.loss, record.grad_norm));
        let (loss, norm) = (loss + 0.05 * (record.loss - loss), norm + 0.05 * (record.grad_norm - norm));
        self.smooth = Some((loss, norm));
        let text = format!(
            "loss {loss:.4}  gradient norm {norm:.3}  {:.2} steps/s  {} left",
            event.mean_steps_per_s,
            duration(event.time_left)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(record.step);
            bar.set_message(text);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due || record.step == event.max_steps {
            self.last_line = Some(Instant::now());
            note(&format!("step {}/{}  {text}", record.step, event.max_steps));
        }
    }

    fn validation(&mut self, record: &ValidationRecord) {
        self.print(&format!("step {}: validation loss {:.4}", record.step, record.loss));
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        let scores: Vec<String> = record.scores.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        self.print(&format!("step {}: {} of {} clips", record.step, scores.join(", "), record.clips));
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        self.print(&format!("step {step}: saved {}", path.display()));
    }

    fn samples(&mut self, step: u64, folder: &Path) {
        self.print(&format!("step {step}: samples in {}", folder.display()));
    }
}

/// Shows the progress of one stage, and an estimate of the remaining time.
#[derive(Debug)]
pub(crate) struct StageProgress {
    stage: &'static str,
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: Instant,
}

impl StageProgress {
    pub(crate) fn new(stage: &'static str) -> Self {
        let bar = bar(1, "{msg} {wide_bar} {percent} %  {eta} left");
        if let Some(bar) = &bar {
            bar.set_message(stage);
        }
        let now = Instant::now();
        Self { stage, bar, start: now, last_line: now }
    }

    /// `done` of `total` parts are done.
    pub(crate) fn set(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        if self.last_line.elapsed() >= LINE_EVERY && done > 0 {
            self.last_line = Instant::now();
            let left = self.start.elapsed().mul_f64(total.saturating_sub(done) as f64 / done as f64);
            note(&format!("{}: {done}/{total}, {} left", self.stage, duration(left)));
        }
    }

    /// Prints a result on standard output, above the progress line.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// Prints a message on standard error, above the progress line.
    pub(crate) fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }

    /// Removes the progress line and, unless the stage failed, prints how long it took. Returns the stage's result.
    pub(crate) fn finish_with<T, E>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.finish(),
            // The error is the only line to read.
            Err(_) => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
            }
        }
        result
    }

    /// Removes the progress line and prints how long the stage took.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        note(&format!("{}: {:.1} s", self.stage, self.start.elapsed().as_secs_f64()));
    }
}

impl Progress for StageProgress {
    fn stage(&mut self, _: Stage, done: u64, total: u64) {
        self.set(done, total);
    }

    fn note(&mut self, message: &str) {
        Self::note(self, message);
    }

    fn warning(&mut self, message: &str) {
        Self::note(self, &format!("warning: {message}"));
    }
}

/// A progress line for work of `total` parts; `None` without a terminal.
pub(crate) fn bar(total: u64, template: &str) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    // The templates are constants of this program; a wrong one leaves the default style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    Some(bar)
}

/// `12 s`, `3 min 05 s`, `1 h 02 min`, `3 d 04 h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) if h < 72 => format!("{h} h {m:02} min"),
        (h, _, _) => format!("{} d {:02} h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [5, 185, 3725, 76 * 3600].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(shown, ["5 s", "3 min 05 s", "1 h 02 min", "3 d 04 h"]);
    }
}
