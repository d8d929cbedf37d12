//! Reads text files of other programs, and makes foreign text safe for messages.
//!
//! Every reader of text in this workspace uses [`read`] or [`as_text`]: lists, tables, labels, configurations, tokenizers. They
//! accept UTF-8 with or without a byte-order mark; for anything else they return an error that says what the file is. [`printable`]
//! escapes characters that a terminal would interpret. [`named`] formats a choice with its name in configurations.
//!
//! A separate crate, because readers of weights and readers of videos need it, and neither may depend on the other.

mod encoding;
mod named;
mod printable;

use std::fs;
use std::io;
use std::path::Path;

pub use encoding::{NotText, as_text, decode, refuse_wide, without_mark};
pub use named::named;
pub use printable::printable;

/// The text of the file at `path`, without byte-order marks.
///
/// # Errors
///
/// If it cannot be read; of the kind [`io::ErrorKind::InvalidData`] if it is not UTF-8 text ([`NotText`] says what it is).
pub fn read(path: &Path) -> io::Result<String> {
    Ok(decode(fs::read(path)?)?)
}
