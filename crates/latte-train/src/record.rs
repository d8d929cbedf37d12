//! The run log: one JSON line per optimiser step.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is known about one optimiser step; a line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The optimiser step, counted from 1.
    pub step: u64,
    /// The mean loss over the step's clips.
    pub loss: f64,
    /// The part of the loss that compares the prediction with its target; absent for losses that have no such part.
    pub mse: Option<f64>,
    /// The variational part of the loss; absent if the variance is not learned.
    pub vb: Option<f64>,
    /// The L2 norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate of the step.
    pub lr: f64,
    /// Optimiser steps per second, over this step alone, loading included.
    pub steps_per_s: f64,
    /// Clips per second, over this step alone.
    pub clips_per_s: f64,
    /// When the step ended, in seconds since 1970.
    pub time: f64,
}

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub(crate) struct RunLog {
    path: PathBuf,
    file: File,
}

impl RunLog {
    /// Opens the log and drops what was written after step `resumed_at`: those steps will be run, and written, again. A torn
    /// last line is dropped as well.
    pub(crate) fn open(path: &Path, resumed_at: u64) -> Result<Self> {
        let io = |e| Error::io(path)(e);
        if path.exists() {
            let mut kept = Vec::new();
            for line in BufReader::new(File::open(path).map_err(io)?).lines() {
                let line = line.map_err(io)?;
                match serde_json::from_str::<StepRecord>(&line) {
                    Ok(record) if record.step <= resumed_at => kept.push(line),
                    _ => {}
                }
            }
            let temporary = path.with_extension("jsonl.tmp");
            let mut file = File::create(&temporary).map_err(Error::io(&temporary))?;
            for line in kept {
                writeln!(file, "{line}").map_err(Error::io(&temporary))?;
            }
            file.sync_all().map_err(Error::io(&temporary))?;
            std::fs::rename(&temporary, path).map_err(io)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends one line in a single write, so that a reader never sees half of it.
    pub(crate) fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(record).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()).map_err(Error::io(&self.path))
    }

    /// Waits until the lines are on disk; done before a checkpoint, which must not be newer than its log.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))
    }
}

/// Reads a run log.
///
/// # Errors
///
/// If the file cannot be read or a line is no record.
pub fn read_metrics(path: &Path) -> Result<Vec<StepRecord>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let parse = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::checkpoint(path, format!("line {}: not a step record: {e}", i + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> StepRecord {
        StepRecord {
            step,
            loss: 0.1 + step as f64,
            mse: Some(0.1),
            vb: None,
            grad_norm: 1.0 / 3.0,
            lr: 1e-4,
            steps_per_s: 2.0,
            clips_per_s: 8.0,
            time: 1.5e9,
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        read_metrics(path).unwrap().iter().map(|r| r.step).collect()
    }

    #[test]
    fn resuming_drops_later_and_torn_lines_and_goes_on_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = RunLog::open(&path, 0).unwrap();
        for step in 1..=5 {
            log.append(&record(step)).unwrap();
        }
        log.file.write_all(b"{\"step\": 6, \"lo").unwrap();
        drop(log);
        let mut log = RunLog::open(&path, 3).unwrap();
        log.append(&record(4)).unwrap();
        assert_eq!(steps(&path), [1, 2, 3, 4]);
        assert_eq!(read_metrics(&path).unwrap()[3], record(4));
        drop(log);
        drop(RunLog::open(&path, 0).unwrap());
        assert!(steps(&path).is_empty());
    }
}
