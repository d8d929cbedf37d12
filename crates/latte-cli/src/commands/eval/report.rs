//! Prints results as text and writes them as JSON.

use std::path::{Path, PathBuf};

use latte_eval::clips::SetReport;
use latte_eval::protocol::Statistic;
use latte_eval::score::Score;
use serde::Serialize;

use crate::output::check_output_file;
use crate::terminal::{note, say};

/// The output of results.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OutputArgs {
    /// Write the result with everything that it depends on to this file, as JSON; `-` prints it instead of the text.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl OutputArgs {
    /// Checks before any work that the result can be written.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.json.as_deref() {
            Some(path) if path != Path::new("-") => check_output_file("--json", path),
            _ => Ok(()),
        }
    }

    /// Prints scores and writes the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn show(&self, scores: &[Score]) -> anyhow::Result<()> {
        for warning in unique(scores.iter().flat_map(|score| &score.warnings)) {
            note(&format!("warning: {warning}"));
        }
        match scores {
            [one] => self.value(one, &lines(one)),
            many => self.value(many, &many.iter().flat_map(lines).collect::<Vec<_>>()),
        }
    }

    /// Prints a result as `lines`, or writes it as `value`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn value<T: Serialize + ?Sized>(&self, value: &T, lines: &[String]) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(value)?;
        match self.json.as_deref() {
            Some(path) if path == Path::new("-") => say(&json),
            other => {
                for line in lines {
                    say(line);
                }
                if let Some(path) = other {
                    latte_model::weights::write_atomically(path, format!("{json}\n").as_bytes())?;
                    say(&format!("details       {}", path.display()));
                }
            }
        }
        Ok(())
    }
}

fn unique<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut unique = Vec::new();
    for text in texts {
        if !unique.contains(&text) {
            unique.push(text);
        }
    }
    unique
}

/// A score as text.
fn lines(score: &Score) -> Vec<String> {
    let p = &score.protocol;
    let mut lines = vec![format!("{:<12}  {}", score.metric, number(score.value))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<12}{text}"));
    if let Some(distance) = score.parts.frechet {
        line("of which", format!("{} from means, {} from covariances", number(distance.means), number(distance.covariances)));
    }
    if let Some(deviation) = score.parts.deviation {
        let over = match p.statistic {
            Statistic::InceptionScore { splits, .. } => format!("{splits} splits"),
            Statistic::Kernel(options) => {
                format!("{} subsets of {}", options.subsets, score.parts.subset_size.unwrap_or_default())
            }
            Statistic::Frechet { .. } => String::new(),
        };
        line("deviation", format!("{} over {over}", number(deviation)));
    }
    if let Some(interval) = score.parts.interval {
        line("95 %", format!("{} to {} by {} resamples", number(interval.low), number(interval.high), interval.resamples));
    }
    if let Some(infinity) = &score.parts.infinity {
        line("infinity", format!("{} for infinitely many generated clips", number(infinity.value)));
    }
    if let Some(m) = score.parts.manifolds {
        line(
            "coverage",
            format!(
                "precision {:.4}, recall {:.4}, density {:.4}, coverage {:.4} ({} neighbours)",
                m.precision, m.recall, m.density, m.coverage, m.neighbours
            ),
        );
    }
    line("protocol", format!("{}, output {}, seed {}", p.name, p.output, p.seed));
    line("detector", format!("{} ({}, {})", score.detector.kind, score.detector.source, short(&score.detector.weights)));
    if let Some(real) = &score.real {
        line("real", set(real));
    }
    line("generated", set(&score.fake));
    lines
}

fn set(report: &SetReport) -> String {
    if report.clips == 0 {
        return format!("mean and covariance in {}", report.path.display());
    }
    let stride = report.stride.map_or(String::new(), |stride| format!(", {stride} apart"));
    let size = report.frame_size.map_or(String::new(), |[h, w]| format!(", {w} × {h}"));
    let frames = if report.frames == 1 { "frames".to_string() } else { format!("clips of {} frames", report.frames) };
    format!("{} {frames}{stride}{size} of {} videos in {}", report.clips, report.videos, report.path.display())
}

fn short(weights: &str) -> &str {
    if weights.len() == 64 { &weights[..12] } else { weights }
}

/// As many digits as two runs of the same work have in common.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || (0.01..1e7).contains(&value.abs()) { format!("{value:.6}") } else { format!("{value:.6e}") }
}
