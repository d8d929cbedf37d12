//! A summary of a run, read from its folder only, whether or not a process is training.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use latte_model::checkpoint::CheckpointFolder;
use serde::Serialize;

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::run::record::{EvaluationRecord, StepRecord, read_evaluations, read_metrics, read_validation};
use crate::run::status::{Phase, RunStatus, host, is_locked};

const METRICS: &str = "metrics.jsonl";
const VALIDATION: &str = "validation.jsonl";
const EVALUATION: &str = "evaluation.jsonl";
/// The number of last steps whose speed is averaged.
const SPEED_OVER: usize = 50;
/// The weight of a step in the smoothed loss: an average over about 20 steps, as `latte train` shows it.
const SMOOTHING: f64 = 0.05;

/// The condition of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCondition {
    /// A process is training it.
    Running,
    /// All steps are done.
    Finished,
    /// It was stopped and saved a checkpoint; it can be resumed.
    Stopped,
    /// The loss or the gradient was not finite.
    Diverged,
    /// Another error occurred.
    Failed,
    /// Its process ended without writing a status: it was killed, or the machine went down.
    Killed,
    /// It cannot be determined: the process ran on another machine, or had an older version.
    Unknown,
}

/// A score at one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreAt {
    /// Optimiser steps done.
    pub step: u64,
    /// The score.
    pub value: f64,
}

/// The history of a score. This crate does not know which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreSummary {
    /// The newest value.
    pub last: ScoreAt,
    /// The lowest value; the first of equal ones.
    pub lowest: ScoreAt,
    /// The highest value; the first of equal ones.
    pub highest: ScoreAt,
}

/// The summary of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// The folder.
    pub path: PathBuf,
    /// Its condition.
    pub condition: RunCondition,
    /// The error, if any.
    pub what: Option<String>,
    /// The last step in the log.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: Option<u64>,
    /// The loss, smoothed over about 20 steps.
    pub loss: Option<f64>,
    /// The last validation loss.
    pub validation_loss: Option<f64>,
    /// Scores of clips from the averaged weights, by name.
    pub scores: BTreeMap<String, ScoreSummary>,
    /// Optimiser steps per second, over the last 50 steps.
    pub steps_per_s: Option<f64>,
    /// The time of all steps in seconds, without breaks, samples and checkpoints.
    pub trained_s: f64,
    /// The time of the remaining steps at that speed, in seconds.
    pub left_s: Option<f64>,
    /// When the log was last written, in seconds since 1970.
    pub last_written: Option<f64>,
}

impl RunSummary {
    /// Whether `folder` is a run folder.
    pub fn is_run(folder: &Path) -> bool {
        folder.join(METRICS).is_file()
    }

    /// Reads the files of a run.
    ///
    /// # Errors
    ///
    /// If `run` is not a run folder, or a file in it cannot be read.
    pub fn read(run: &Path) -> Result<Self> {
        if !Self::is_run(run) {
            return Err(Error::checkpoint(
                run,
                format!("is no run: expected a folder with {METRICS}, as `latte train` writes it"),
            ));
        }
        let records = read_metrics(&run.join(METRICS))?;
        let status = RunStatus::read(run)?;
        let step = records.last().map_or(0, |record| record.step);
        let max_steps = match &status {
            Some(status) => Some(status.max_steps),
            None => max_steps_of_checkpoint(run),
        };
        let steps_per_s = speed(&records);
        let left = max_steps.map(|max| max.saturating_sub(step)).filter(|left| *left > 0);
        Ok(Self {
            path: run.to_path_buf(),
            condition: condition(is_locked(run), status.as_ref(), Some(step) == max_steps),
            what: status.and_then(|status| status.what),
            step,
            max_steps,
            loss: smoothed_loss(&records),
            validation_loss: read_validation(&run.join(VALIDATION))?.last().map(|record| record.loss),
            scores: scores(&read_evaluations(&run.join(EVALUATION))?),
            steps_per_s,
            trained_s: records.iter().map(|record| 1.0 / record.steps_per_s).filter(|s| s.is_finite()).sum(),
            left_s: left.zip(steps_per_s).map(|(left, speed)| left as f64 / speed),
            last_written: fs::metadata(run.join(METRICS)).and_then(|m| m.modified()).ok().map(seconds),
        })
    }
}

fn scores(records: &[EvaluationRecord]) -> BTreeMap<String, ScoreSummary> {
    let mut scores: BTreeMap<String, ScoreSummary> = BTreeMap::new();
    for record in records {
        for (name, value) in &record.scores {
            let now = ScoreAt { step: record.step, value: *value };
            let score = scores.entry(name.clone()).or_insert(ScoreSummary { last: now, lowest: now, highest: now });
            score.last = now;
            if now.value < score.lowest.value {
                score.lowest = now;
            }
            if now.value > score.highest.value {
                score.highest = now;
            }
        }
    }
    scores
}

fn condition(locked: bool, status: Option<&RunStatus>, all_steps_done: bool) -> RunCondition {
    match status.map(|status| (status.phase, &status.host)) {
        _ if locked => RunCondition::Running,
        Some((Phase::Running, of)) if *of == host() => RunCondition::Killed,
        Some((Phase::Running, _)) => RunCondition::Unknown,
        Some((Phase::Finished, _)) => RunCondition::Finished,
        Some((Phase::Stopped, _)) => RunCondition::Stopped,
        Some((Phase::Diverged, _)) => RunCondition::Diverged,
        Some((Phase::Failed, _)) => RunCondition::Failed,
        None if all_steps_done => RunCondition::Finished,
        None => RunCondition::Unknown,
    }
}

/// For runs without a status: the value in the configuration of the newest checkpoint.
fn max_steps_of_checkpoint(run: &Path) -> Option<u64> {
    let newest = CheckpointFolder::of_run(run).latest().ok()??;
    Some(TrainConfig::load(&newest.join("config.toml"), &[]).ok()?.train.max_steps)
}

fn speed(records: &[StepRecord]) -> Option<f64> {
    let last = &records[records.len().saturating_sub(SPEED_OVER)..];
    let seconds: f64 = last.iter().map(|record| 1.0 / record.steps_per_s).sum();
    (seconds > 0.0 && seconds.is_finite()).then(|| last.len() as f64 / seconds)
}

fn smoothed_loss(records: &[StepRecord]) -> Option<f64> {
    records.iter().map(|record| record.loss).reduce(|smooth, loss| smooth + SMOOTHING * (loss - smooth))
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The run folders in `folder`, sorted by path: the folder itself, or those up to `depth` levels below it.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn find_runs(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    if RunSummary::is_run(folder) {
        return Ok(vec![folder.to_path_buf()]);
    }
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut below = entries.map(|e| Ok(e.map_err(Error::io(folder))?.path())).collect::<Result<Vec<_>>>()?;
    below.sort();
    for path in below.into_iter().filter(|path| depth > 0 && path.is_dir()) {
        found.extend(find_runs(&path, depth - 1)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::loss_parts::LossParts;
    use crate::run::record::ValidationRecord;
    use crate::run::status::RunLock;

    fn write_log(run: &Path, losses: &[f64], torn: &str) {
        fs::create_dir_all(run).unwrap();
        let line = |(i, loss): (usize, &f64)| {
            // Slow at first: the speed is that of the last fifty steps.
            let steps_per_s = if i < 10 { 1.0 } else { 4.0 };
            let record = StepRecord {
                step: i as u64 + 1,
                loss: *loss,
                parts: LossParts::default(),
                grad_norm: 1.0,
                lr: 1e-4,
                steps_per_s,
                clips_per_s: 1.0,
                time: 1e9,
            };
            serde_json::to_string(&record).unwrap() + "\n"
        };
        let text: String = losses.iter().enumerate().map(line).collect();
        fs::write(run.join(METRICS), text + torn).unwrap();
    }

    #[test]
    fn a_run_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a");
        write_log(&run, &[vec![3.0; 10], vec![1.0; 60]].concat(), "{\"step\":71,");
        RunStatus::begins(0, 110).write(&run).unwrap();
        let summary = RunSummary::read(&run).unwrap();
        assert_eq!((summary.condition, summary.step, summary.max_steps), (RunCondition::Killed, 70, Some(110)));
        assert_eq!((summary.steps_per_s, summary.left_s), (Some(4.0), Some(10.0)));
        assert!((summary.trained_s - 25.0).abs() < 1e-9);
        // 2 · 0.95^60 of the old loss remain.
        assert!((summary.loss.unwrap() - 1.0 - 2.0 * 0.95_f64.powi(60)).abs() < 1e-9);
        assert_eq!((summary.validation_loss, summary.scores.len()), (None, 0));
        let validation = ValidationRecord { step: 50, loss: 0.5, mse: None, vb: None, time: 1e9 };
        fs::write(run.join(VALIDATION), serde_json::to_string(&validation).unwrap() + "\n").unwrap();
        let evaluation =
            |step, value| EvaluationRecord { step, clips: 4, scores: [("a_fvd".to_string(), value)].into(), time: 1e9 };
        let lines = [evaluation(0, 9.0), evaluation(25, 2.0), evaluation(50, 3.0), evaluation(60, 2.0), evaluation(70, 2.5)];
        let lines: Vec<String> = lines.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        fs::write(run.join(EVALUATION), lines.join("\n") + "\n{\"step\":").unwrap();
        let summary = RunSummary::read(&run).unwrap();
        assert_eq!(summary.validation_loss, Some(0.5));
        let at = |step, value| ScoreAt { step, value };
        let score = ScoreSummary { last: at(70, 2.5), lowest: at(25, 2.0), highest: at(0, 9.0) };
        assert_eq!(summary.scores, [("a_fvd".to_string(), score)].into());
        let lock = RunLock::take(&run).unwrap();
        assert_eq!(RunSummary::read(&run).unwrap().condition, RunCondition::Running);
        drop(lock);
        RunStatus::begins(0, 110).ends(Phase::Diverged, Some("the loss is NaN".into()), 70).write(&run).unwrap();
        let summary = RunSummary::read(&run).unwrap();
        assert_eq!((summary.condition, summary.what.as_deref()), (RunCondition::Diverged, Some("the loss is NaN")));
        let no_run = RunSummary::read(dir.path()).unwrap_err().to_string();
        assert!(no_run.contains("is no run"), "{no_run}");
    }

    #[test]
    fn what_cannot_be_known_is_not_claimed() {
        let elsewhere = RunStatus { host: "another machine".into(), ..RunStatus::begins(0, 9) };
        assert_eq!(condition(false, Some(&elsewhere), false), RunCondition::Unknown);
        assert_eq!(condition(false, None, false), RunCondition::Unknown);
        assert_eq!(condition(false, None, true), RunCondition::Finished);
        assert_eq!(condition(true, None, false), RunCondition::Running);
    }

    #[test]
    fn an_empty_log_is_a_run_that_has_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), &[], "");
        let summary = RunSummary::read(dir.path()).unwrap();
        assert_eq!((summary.step, summary.loss, summary.steps_per_s, summary.left_s), (0, None, None, None));
    }

    #[test]
    fn runs_are_found_below_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["b", "group/a", "group/deep/c", "b/checkpoints"] {
            write_log(&dir.path().join(run), &[1.0], "");
        }
        fs::create_dir_all(dir.path().join("empty")).unwrap();
        let names = |depth| -> Vec<String> {
            let strip = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
            find_runs(dir.path(), depth).unwrap().into_iter().map(strip).collect()
        };
        assert_eq!(names(3), ["b", "group/a", "group/deep/c"]);
        assert_eq!(names(2), ["b", "group/a"]);
        assert_eq!(find_runs(&dir.path().join("b"), 0).unwrap(), [dir.path().join("b")]);
        assert!(find_runs(&dir.path().join("nowhere"), 1).is_err());
    }
}
