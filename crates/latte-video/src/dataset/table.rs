//! A manifest of any format as a table of cells.

use super::Skipped;

/// The rows of a manifest, reduced to the columns that may be needed.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The names of all columns, for messages; at most [`Table::MAX_NAMES`].
    pub(super) found: Vec<String>,
    /// The names of the columns that are kept.
    pub(super) columns: Vec<String>,
    /// The rows that could be read.
    pub(super) rows: Vec<Row>,
    /// The rows that could not be read.
    pub(super) skipped: Skipped,
}

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its line or row number in the file, from 1.
    pub(super) number: u64,
    /// In the order of [`Table::columns`]; cells beyond the end are missing.
    pub(super) cells: Vec<Cell>,
}

/// The content of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Cell {
    /// Nothing, or only spaces.
    #[default]
    Missing,
    /// Text without surrounding spaces, or a number as text.
    Text(String),
    /// An unusable value, described in words.
    Unfit(&'static str),
}

impl Table {
    /// A longer list would not help anyone to find the right name.
    const MAX_NAMES: usize = 40;

    /// Records that the file has a column of this name.
    pub(super) fn note(&mut self, name: &str) {
        if self.found.len() < Self::MAX_NAMES && !self.found.iter().any(|n| n == name) {
            self.found.push(name.to_string());
        }
    }

    /// The index of a column in [`Table::columns`]; adds it if it is new.
    pub(super) fn keep(&mut self, name: &str) -> usize {
        self.columns.iter().position(|n| n == name).unwrap_or_else(|| {
            self.columns.push(name.to_string());
            self.columns.len() - 1
        })
    }
}

impl Cell {
    /// Text without surrounding spaces and without a byte-order mark, which the first field has if files were concatenated.
    pub(super) fn text(text: &str) -> Self {
        match latte_textfile::without_mark(text.trim()).trim() {
            "" => Self::Missing,
            text => Self::Text(text.to_string()),
        }
    }
}
