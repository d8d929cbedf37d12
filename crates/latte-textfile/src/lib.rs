//! Text files that other programs wrote, and text of theirs in messages.
//!
//! Every reader of text in this workspace goes through [`read`] or [`as_text`]: lists, tables, labels, configurations,
//! tokenizers. They take UTF-8 with or without a byte-order mark and refuse everything else with one sentence that says what the
//! file is. [`printable`] shows text that may hold signs that a terminal would obey instead of showing. [`named`] shows a choice by the
//! name that it has in configurations.
//!
//! This is a crate of its own because readers of weights and readers of videos need it, and neither may see the other.

mod encoding;
mod named;
mod printable;

use std::fs;
use std::io;
use std::path::Path;

pub use encoding::{NotText, as_text, decode, refuse_wide, without_mark};
pub use named::named;
pub use printable::printable;

/// The text of a file, without byte-order marks.
///
/// # Errors
///
/// If it cannot be read; of the kind [`io::ErrorKind::InvalidData`] if it is no UTF-8 text ([`NotText`] says what it is).
pub fn read(path: &Path) -> io::Result<String> {
    Ok(decode(fs::read(path)?)?)
}
