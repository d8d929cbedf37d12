//! What of a data set is skipped.

use super::{Diagnostic, Severity};
use crate::Error;

/// What of a data set cannot be used and was skipped: rows of a manifest, samples and members of archives, files and folders.
#[derive(Debug, Default)]
pub struct Skipped {
    /// How many there are.
    pub count: usize,
    /// The first of them, at most [`Skipped::MAX_LISTED`]; each says where it is and what is wrong with it.
    pub listed: Vec<Error>,
}

impl Skipped {
    /// A list of more is of no use to anybody, and millions of them would fill the memory.
    pub const MAX_LISTED: usize = 1000;

    pub(crate) fn add(&mut self, error: Error) {
        self.count += 1;
        if self.listed.len() < Self::MAX_LISTED {
            self.listed.push(error);
        }
    }

    /// What happened in one sentence; `None` if nothing was skipped.
    pub fn summary(&self) -> Option<String> {
        let first = self.listed.first()?;
        let many =
            if self.count == 1 { "one is skipped".into() } else { format!("{} are skipped, the first of them", self.count) };
        Some(format!("of the rows, samples, files and folders that there are, {many}: {first}"))
    }

    /// The same as a diagnostic of a check.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        Some(Diagnostic { severity: Severity::Warning, what: self.summary()? })
    }

    /// Puts the first message behind a sentence that says that nothing is left; nothing where nothing was skipped.
    pub(crate) fn first(&self) -> String {
        self.listed.first().map_or_else(String::new, |e| format!("; the first of {} skipped: {e}", self.count))
    }
}
