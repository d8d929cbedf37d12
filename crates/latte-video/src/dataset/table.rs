//! A manifest as a table of cells, whatever format it came in.

use super::Skipped;

/// The rows of a manifest, cut down to the columns that may matter.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The names of all columns, for messages; the first [`Table::MAX_NAMES`].
    pub(super) found: Vec<String>,
    /// The names of the columns that are kept.
    pub(super) columns: Vec<String>,
    /// Those that could be read.
    pub(super) rows: Vec<Row>,
    /// Those that could not.
    pub(super) skipped: Skipped,
}

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its line or its number in the file, from 1.
    pub(super) number: u64,
    /// In the order of [`Table::columns`]; where there are fewer, the rest is missing.
    pub(super) cells: Vec<Cell>,
}

/// What stands in a row for a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Cell {
    /// Nothing, or nothing but spaces.
    #[default]
    Missing,
    /// Text, or a number as text, without spaces around it.
    Text(String),
    /// What cannot be used; in words, what it is.
    Unfit(&'static str),
}

impl Table {
    /// More names than these help nobody to find the right one.
    const MAX_NAMES: usize = 40;

    /// Notes that there is a column of this name.
    pub(super) fn note(&mut self, name: &str) {
        if self.found.len() < Self::MAX_NAMES && !self.found.iter().any(|n| n == name) {
            self.found.push(name.to_string());
        }
    }

    /// The place of a column among those that are kept; it becomes one of them.
    pub(super) fn keep(&mut self, name: &str) -> usize {
        self.columns.iter().position(|n| n == name).unwrap_or_else(|| {
            self.columns.push(name.to_string());
            self.columns.len() - 1
        })
    }
}

impl Cell {
    /// Text, without spaces around it and without a byte-order mark, which the first field has where files were joined.
    pub(super) fn text(text: &str) -> Self {
        match latte_textfile::without_mark(text.trim()).trim() {
            "" => Self::Missing,
            text => Self::Text(text.to_string()),
        }
    }
}
