//! Lines for people: results on standard output, news of the work on standard error.

use std::io::Write;

/// Writes a line to standard output. A closed pipe (`latte inspect … | head`) is no failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
