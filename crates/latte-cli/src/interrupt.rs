//! Handles Ctrl-C and requests to terminate for commands that save before they stop, with the exit codes.
//!
//! Other commands are ended by the system, and shells report the same exit codes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::Context;
use latte::CancelToken;

use crate::terminal::note;

/// Shells add this to the number of a signal.
const SIGNALLED: i32 = 128;
/// The number of the signal of Ctrl-C.
const INTERRUPT: i32 = 2;

/// The exit code of cancelled work whose signal is not known.
pub(crate) const BY_CTRL_C: u8 = (SIGNALLED + INTERRUPT) as u8;

/// A signal stopped the work early. Its results are printed and saved.
#[derive(Debug)]
pub(crate) struct Interrupted(i32);

impl Interrupted {
    /// The exit code: 130 after Ctrl-C, 143 after a request to terminate.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(SIGNALLED + self.0).unwrap_or(1)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Whether a signal asked the program to stop. A signal ends the program at once if nothing could be saved, or if it is the second
/// one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    cancel: CancelToken,
    /// The signal; 0 for none.
    signal: Arc<AtomicI32>,
    /// Whether work is in progress that must be finished and saved first.
    saves: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for Ctrl-C, a request to terminate, and the end of the terminal.
    ///
    /// # Errors
    ///
    /// If the system does not permit it.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let asked = interrupt.clone();
        listen(move |signal| asked.asked(signal)).context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Runs work that checks the token and then saves: only a second signal ends it at once.
    pub(crate) fn while_saving<T>(&self, work: impl FnOnce(&CancelToken) -> T) -> T {
        self.saves.store(true, Ordering::SeqCst);
        let done = work(&self.cancel);
        self.saves.store(false, Ordering::SeqCst);
        done
    }

    /// The error of a program that was stopped.
    pub(crate) fn error(&self) -> anyhow::Error {
        Interrupted(match self.signal.load(Ordering::SeqCst) {
            0 => INTERRUPT,
            signal => signal,
        })
        .into()
    }

    fn asked(&self, signal: i32) {
        self.signal.store(signal, Ordering::SeqCst);
        if self.cancel.is_cancelled() || !self.saves.load(Ordering::SeqCst) {
            end_at_once(SIGNALLED + signal);
        }
        self.cancel.cancel();
        note("stopping: this step is finished and saved first (Ctrl-C again ends at once, without saving)");
    }
}

#[expect(clippy::exit, reason = "the user interrupted the program, and no file is ever half-written")]
fn end_at_once(code: i32) {
    std::process::exit(code);
}

#[cfg(unix)]
fn listen(asked: impl Fn(i32) + Send + 'static) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut signals = vec![SIGINT, SIGTERM];
    // `nohup` ignores this signal on purpose.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            asked(signal);
        }
    })?;
    Ok(())
}

/// Whether this process ignores a signal (only known on Linux).
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 == 1)
}

#[cfg(not(unix))]
fn listen(asked: impl Fn(i32) + Send + 'static) -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(move || asked(INTERRUPT))?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The error after a request to terminate.
    pub(crate) fn terminated() -> anyhow::Error {
        Interrupted(15).into()
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        let interrupt = Interrupt::default();
        let code = |interrupt: &Interrupt| interrupt.error().downcast_ref::<Interrupted>().map(Interrupted::exit_code);
        assert_eq!(code(&interrupt), Some(130));
        interrupt.while_saving(|cancel| {
            interrupt.asked(15);
            assert!(cancel.is_cancelled());
        });
        assert_eq!(code(&interrupt), Some(143));
    }
}
