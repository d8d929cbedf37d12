//! What of a data set is passed over.

use crate::Error;

/// What of a data set cannot be used and was passed over: rows of a manifest, samples and members of archives.
#[derive(Debug, Default)]
pub struct Skipped {
    /// How many there are.
    pub count: usize,
    /// The first of them, at most [`Skipped::MOST_LISTED`]; each says where it is and what is wrong with it.
    pub listed: Vec<Error>,
}

impl Skipped {
    /// A list of more is of no use to anybody, and millions of them would fill the memory.
    pub const MOST_LISTED: usize = 1000;

    pub(super) fn add(&mut self, error: Error) {
        self.count += 1;
        if self.listed.len() < Self::MOST_LISTED {
            self.listed.push(error);
        }
    }

    /// Puts the first message behind a sentence that says that nothing is left; nothing where nothing was passed over.
    pub(super) fn first(&self) -> String {
        self.listed.first().map_or_else(String::new, |e| format!("; the first of {} passed over: {e}", self.count))
    }
}
