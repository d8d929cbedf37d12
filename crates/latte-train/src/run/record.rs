//! The run logs: JSON lines, one per optimiser step, per validation and per evaluation.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::loss_parts::LossParts;
use crate::error::{Error, Result};

/// The record of one optimiser step, a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The optimiser step, counted from 1.
    pub step: u64,
    /// The mean loss over the step's clips.
    pub loss: f64,
    /// The parts of the loss. A denoiser has `mse`, the squared error of the prediction without `train.min_snr_gamma`'s weight, and
    /// `vb`, the variational part if the variance is learned. An autoencoder has `reconstruction`, the mean difference between
    /// frames, and `kl`, the divergence of a frame's latents from a standard normal distribution, in nats, not weighted.
    #[serde(flatten)]
    pub parts: LossParts,
    /// The L2 norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate of the step.
    pub lr: f64,
    /// Optimiser steps per second, over this step alone, including loading.
    pub steps_per_s: f64,
    /// Clips per second, over this step alone.
    pub clips_per_s: f64,
    /// When the step ended, in seconds since 1970.
    pub time: f64,
}

impl StepRecord {
    /// The numbers with their tags in TensorBoard.
    pub(crate) fn scalars(&self) -> Vec<(String, f64)> {
        let parts = self.parts.iter().map(|(name, value)| (format!("train/{name}"), value));
        let rest = [
            ("train/grad_norm", self.grad_norm),
            ("train/lr", self.lr),
            ("speed/steps_per_s", self.steps_per_s),
            ("speed/clips_per_s", self.clips_per_s),
        ];
        let rest = rest.into_iter().map(|(name, value)| (name.to_string(), value));
        std::iter::once(("train/loss".to_string(), self.loss)).chain(parts).chain(rest).collect()
    }
}

/// The loss on held-out data with the averaged weights, a line of `validation.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// The mean loss over clips and timesteps, without `train.min_snr_gamma`'s weight, so that runs are comparable.
    pub loss: f64,
    /// Its squared-error part; absent for losses without such a part.
    pub mse: Option<f64>,
    /// Its variational part; absent if the variance is not learned.
    pub vb: Option<f64>,
    /// When it was measured, in seconds since 1970.
    pub time: f64,
}

/// Scores of clips from the averaged weights, a line of `evaluation.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// The number of clips that were generated and scored.
    pub clips: usize,
    /// The scores, by name.
    pub scores: BTreeMap<String, f64>,
    /// When they were computed, in seconds since 1970.
    pub time: f64,
}

/// A line of a log.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The optimiser step of the line.
    fn step(&self) -> u64;
}

impl Record for StepRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

impl Record for EvaluationRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

impl Record for ValidationRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

/// A log with lines of type `R`, open for appending.
#[derive(Debug)]
pub(crate) struct RunLog<R> {
    path: PathBuf,
    /// `None` until it is open.
    file: Option<File>,
    /// The step of the last line.
    last: Option<u64>,
    lines: PhantomData<fn(&R)>,
}

impl<R: Record> RunLog<R> {
    /// The log in the file `path`, which is not opened yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, last: None, lines: PhantomData }
    }

    /// Opens the log and drops the lines after step `resumed_at`, because the run repeats those steps. Also drops an incomplete
    /// last line.
    pub(crate) fn begin(&mut self, resumed_at: u64) -> Result<()> {
        let path = &self.path;
        let io = |e| Error::io(path)(e);
        let mut last = None;
        if path.exists() {
            let mut kept = Vec::new();
            for line in BufReader::new(File::open(path).map_err(io)?).lines() {
                let line = line.map_err(io)?;
                // Windows editors write a byte order mark; the first line must be readable all the same.
                let line = latte_textfile::without_mark(&line);
                match serde_json::from_str::<R>(line) {
                    Ok(record) if record.step() <= resumed_at => {
                        last = Some(record.step());
                        kept.push(line.to_string());
                    }
                    _ => {}
                }
            }
            let text: String = kept.into_iter().map(|line| line + "\n").collect();
            latte_model::weights::write_atomically(path, text.as_bytes())?;
        }
        self.file = Some(open(path)?);
        self.last = last;
        Ok(())
    }

    /// The step of the last line, if any.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.last
    }

    /// Appends one line in a single write, so that a reader never sees half of it. If the disk is full, the incomplete line is
    /// removed.
    pub(crate) fn append(&mut self, record: &R) -> Result<()> {
        let mut line = serde_json::to_string(record).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push('\n');
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open(&self.path)?),
        };
        let length = file.metadata().map_err(Error::io(&self.path))?.len();
        if let Err(e) = file.write_all(line.as_bytes()).and_then(|()| file.flush()) {
            // The first error is the one to report.
            let _ = file.set_len(length);
            return Err(Error::io(&self.path)(e));
        }
        self.last = Some(record.step());
        Ok(())
    }

    /// Waits until the lines are on disk; called before a checkpoint is written, which must not be newer than the log of its steps.
    pub(crate) fn sync(&self) -> Result<()> {
        match &self.file {
            Some(file) => file.sync_all().map_err(Error::io(&self.path)),
            None => Ok(()),
        }
    }
}

/// Opens a file for appending.
fn open(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path))
}

/// Reads a run log (`metrics.jsonl`). An incomplete last line is skipped.
///
/// # Errors
///
/// If the file cannot be read or another line is invalid.
pub fn read_metrics(path: &Path) -> Result<Vec<StepRecord>> {
    read(path, "step record")
}

/// Reads a log of validations (`validation.jsonl`), as [`read_metrics`] does; without a file, the result is empty.
///
/// # Errors
///
/// As [`read_metrics`].
pub fn read_validation(path: &Path) -> Result<Vec<ValidationRecord>> {
    read_if_there(path, "validation record")
}

/// Reads a log of scores (`evaluation.jsonl`), as [`read_metrics`] does; without a file, the result is empty.
///
/// # Errors
///
/// As [`read_metrics`].
pub fn read_evaluations(path: &Path) -> Result<Vec<EvaluationRecord>> {
    read_if_there(path, "evaluation record")
}

/// [`read`] for an optional log.
fn read_if_there<R: Record>(path: &Path, what: &str) -> Result<Vec<R>> {
    if path.exists() { read(path, what) } else { Ok(Vec::new()) }
}

fn read<R: Record>(path: &Path, what: &str) -> Result<Vec<R>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut records = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(latte_textfile::without_mark(line)) {
            Ok(record) => records.push(record),
            Err(_) if !line.ends_with('\n') => {}
            Err(e) => return Err(Error::checkpoint(path, format!("line {}: not a {what}: {e}", index + 1))),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> StepRecord {
        StepRecord {
            step,
            loss: 0.1 + step as f64,
            parts: LossParts::new([("mse", Some(0.1)), ("vb", None)]),
            grad_norm: 1.0 / 3.0,
            lr: 1e-4,
            steps_per_s: 2.0,
            clips_per_s: 8.0,
            time: 1.5e9,
        }
    }

    fn begin(path: &Path, resumed_at: u64) -> RunLog<StepRecord> {
        let mut log = RunLog::new(path.to_path_buf());
        log.begin(resumed_at).unwrap();
        log
    }

    fn steps(path: &Path) -> Vec<u64> {
        read_metrics(path).unwrap().iter().map(|r| r.step).collect()
    }

    #[test]
    fn resuming_drops_later_and_torn_lines_and_continues_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = begin(&path, 0);
        for step in 1..=5 {
            log.append(&record(step)).unwrap();
        }
        log.file.as_mut().unwrap().write_all(b"{\"step\": 6, \"lo").unwrap();
        drop(log);
        let mut log = begin(&path, 3);
        log.append(&record(4)).unwrap();
        assert_eq!(steps(&path), [1, 2, 3, 4]);
        assert_eq!(read_metrics(&path).unwrap()[3], record(4));
        drop(log);
        drop(begin(&path, 0));
        assert!(steps(&path).is_empty());
    }

    /// Windows editors write a byte order mark at the beginning.
    #[test]
    fn a_mark_costs_no_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let lines: Vec<String> = (1..=3).map(|step| serde_json::to_string(&record(step)).unwrap()).collect();
        std::fs::write(&path, format!("\u{feff}{}\r\n", lines.join("\r\n"))).unwrap();
        assert_eq!(steps(&path), [1, 2, 3]);
        drop(begin(&path, 2));
        assert_eq!(steps(&path), [1, 2]);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_any_other_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("validation.jsonl");
        let record = ValidationRecord { step: 5, loss: 0.25, mse: Some(0.2), vb: None, time: 1.5e9 };
        let line = serde_json::to_string(&record).unwrap();
        std::fs::write(&path, format!("{line}\n{}", &line[..20])).unwrap();
        assert_eq!(read_validation(&path).unwrap(), [record]);
        std::fs::write(&path, format!("{line}\n{}\n{line}\n", &line[..20])).unwrap();
        let error = read_validation(&path).unwrap_err().to_string();
        assert!(error.contains("line 2: not a validation record"), "{error}");
    }
}
