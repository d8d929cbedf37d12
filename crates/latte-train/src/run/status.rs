//! The status of a run and of its last process: `status.toml` and `.lock` in the run folder.
//!
//! The training process holds a lock on `.lock`, which the system releases however the process ends. So a run whose status is
//! `running` while the lock is free was killed, and two processes cannot train in one folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const STATUS_FILE: &str = "status.toml";
const LOCK_FILE: &str = ".lock";

/// The phase that the last training process recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The process was training.
    Running,
    /// All steps are done.
    Finished,
    /// It was stopped, and saved a checkpoint.
    Stopped,
    /// The loss or the gradient was not finite.
    Diverged,
    /// Another error occurred.
    Failed,
}

/// `status.toml`: written when a training process starts, and when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The phase of the process.
    pub phase: Phase,
    /// The error, for `diverged` and `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Optimiser steps done when this was written.
    pub step: u64,
    /// Optimiser steps of the whole run.
    pub max_steps: u64,
    /// When the process started, in seconds since 1970.
    pub started: f64,
    /// When it ended, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
    /// The name of the machine.
    pub host: String,
    /// The process id.
    pub process: u32,
}

impl RunStatus {
    /// The status of a process that starts now.
    pub(crate) fn begins(step: u64, max_steps: u64) -> Self {
        let (phase, process) = (Phase::Running, std::process::id());
        Self { phase, what: None, step, max_steps, started: now(), ended: None, host: host(), process }
    }

    /// The status of the same process when it ends now.
    pub(crate) fn ends(self, phase: Phase, what: Option<String>, step: u64) -> Self {
        Self { phase, what, step, ended: Some(now()), ..self }
    }

    /// Writes into `run` that the process ends now, with the phase that `phase` returns for the outcome, or with its error. Returns
    /// the outcome; its own error has priority over an error of this write.
    pub(crate) fn write_end<T>(self, run: &Path, step: u64, outcome: Result<T>, phase: impl FnOnce(&T) -> Phase) -> Result<T> {
        let ended = match &outcome {
            Ok(done) => self.ends(phase(done), None, step),
            Err(e @ Error::Diverged { .. }) => self.ends(Phase::Diverged, Some(e.to_string()), step),
            Err(e) => self.ends(Phase::Failed, Some(e.to_string()), step),
        };
        let written = ended.write(run);
        outcome.and_then(|done| written.map(|()| done))
    }

    /// Reads the status of the run in `run`; `None` if it has none.
    ///
    /// # Errors
    ///
    /// If it exists but cannot be read or parsed.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        let path = run.join(STATUS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = latte_textfile::read(&path).map_err(Error::io(&path))?;
        let status = toml::from_str(&text)
            .map_err(|e| Error::checkpoint(&path, format!("cannot be parsed, it may be damaged: {}", e.message())))?;
        Ok(Some(status))
    }

    pub(crate) fn write(&self, run: &Path) -> Result<()> {
        let path = run.join(STATUS_FILE);
        let text = toml::to_string(self).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        Ok(latte_model::weights::write_atomically(&path, text.as_bytes())?)
    }
}

/// The lock of the process that trains in a run folder.
#[derive(Debug)]
pub(crate) struct RunLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl RunLock {
    /// Takes the lock of the run in the folder `run`.
    pub(crate) fn take(run: &Path) -> Result<Self> {
        let path = run.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        // A process that only checks the lock holds it for a moment.
        for _ in 0..20 {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
                // A file system without locks: the run is not protected.
                Err(TryLockError::Error(_)) => return Ok(Self(file)),
            }
        }
        let what = "another process trains in this folder; wait for it or stop it, or set another `output.run`";
        Err(Error::checkpoint(run, what))
    }
}

/// Whether a process of this machine trains in the folder `run` now.
pub(crate) fn is_locked(run: &Path) -> bool {
    File::open(run.join(LOCK_FILE)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The name of this machine, as part of a file name.
pub(crate) fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = kernel.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    let name: String = named.unwrap_or_default().trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_lock_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_locked(dir.path()));
        let lock = RunLock::take(dir.path()).unwrap();
        assert!(is_locked(dir.path()));
        let refused = RunLock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another process trains in this folder"), "{refused}");
        drop(lock);
        assert!(!is_locked(dir.path()));
        RunLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunStatus::read(dir.path()).unwrap(), None);
        let begun = RunStatus::begins(3, 10);
        begun.write(dir.path()).unwrap();
        assert_eq!(RunStatus::read(dir.path()).unwrap().unwrap(), begun);
        let ended = begun.ends(Phase::Diverged, Some("the loss is NaN".into()), 7);
        ended.write(dir.path()).unwrap();
        assert_eq!(RunStatus::read(dir.path()).unwrap().unwrap(), ended);
        std::fs::write(dir.path().join(STATUS_FILE), "phase = 3").unwrap();
        let damaged = RunStatus::read(dir.path()).unwrap_err().to_string();
        assert!(damaged.contains(STATUS_FILE) && !damaged.contains('\n'), "{damaged}");
    }
}
