//! The unusable parts of a data set, which are skipped.

use super::{Diagnostic, Severity};
use crate::Error;

/// What was skipped because it cannot be used: rows of a manifest, samples and members of archives, files and folders.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Number of skipped things.
    pub count: usize,
    /// The first of them, at most [`Skipped::MAX_LISTED`]; each has its location and the reason.
    pub listed: Vec<Error>,
}

impl Skipped {
    /// A longer list would be of no use, and millions of errors would fill the memory.
    pub const MAX_LISTED: usize = 1000;

    pub(crate) fn add(&mut self, error: Error) {
        self.count += 1;
        if self.listed.len() < Self::MAX_LISTED {
            self.listed.push(error);
        }
    }

    /// A summary in one sentence; `None` if nothing was skipped.
    pub fn summary(&self) -> Option<String> {
        let first = self.listed.first()?;
        let many =
            if self.count == 1 { "one is skipped".into() } else { format!("{} are skipped, the first of them", self.count) };
        Some(format!("some rows, samples, files or folders cannot be used: {many}: {first}"))
    }

    /// The summary as a diagnostic of a check.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        Some(Diagnostic { severity: Severity::Warning, what: self.summary()? })
    }

    /// A clause with the first message, to add to an error about an empty data set; empty if nothing was skipped.
    pub(crate) fn first(&self) -> String {
        self.listed.first().map_or_else(String::new, |e| format!("; the first of {} skipped: {e}", self.count))
    }
}
