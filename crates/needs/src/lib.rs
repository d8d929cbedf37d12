//! Tests that depend on what a machine may lack: a program, a library, an instruction set.
//!
//! Such a test prints `NOT RUN` and passes if the dependency is missing. `LATTE_REQUIRE` (names with commas between them) makes it
//! fail instead, so that the loss of a dependency on a machine that should have it is noticed.

/// The environment variable that lists what must be present.
pub const VARIABLE: &str = "LATTE_REQUIRE";

/// What tests may need, and the stages of `./check` with these names.
pub const NAMES: [&str; 7] = ["ffmpeg", "libavcodec", "avx2", "avx512", "avx512-bf16", "typos", "deny"];

/// Prints that `name` is missing and that `what` is therefore not tested.
///
/// # Panics
///
/// If [`VARIABLE`] lists `name`, or something that is none of [`NAMES`].
#[expect(clippy::print_stdout, clippy::panic, reason = "for tests: a line of their output, or their failure")]
pub fn not_run(name: &str, what: &str) {
    match said(&std::env::var(VARIABLE).unwrap_or_default(), name, what) {
        Ok(line) => println!("{line}"),
        Err(line) => panic!("{line}"),
    }
}

/// The line to print; an error if the test must fail.
fn said(required: &str, name: &str, what: &str) -> Result<String, String> {
    let is_required = names(required)?.contains(&name);
    // A misspelt name in a test would never be required.
    if !NAMES.contains(&name) {
        return Err(format!("`{name}` is none of the names that tests may need: {}", NAMES.join(", ")));
    }
    if is_required {
        Err(format!("{VARIABLE} lists {name}, which this machine lacks: {what}"))
    } else {
        Ok(format!("NOT RUN: this machine lacks {name}: {what}"))
    }
}

/// The names in a value of [`VARIABLE`].
fn names(required: &str) -> Result<Vec<&str>, String> {
    let names: Vec<&str> = required.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    match names.iter().find(|name| !NAMES.contains(name)) {
        Some(unknown) => Err(format!("{VARIABLE}: `{unknown}` is not known; expected names of {}", NAMES.join(", "))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_requirement_fails_and_other_missing_things_are_reported() {
        assert_eq!(said("", "ffmpeg", "x").unwrap(), "NOT RUN: this machine lacks ffmpeg: x");
        assert!(said("libavcodec, avx512", "ffmpeg", "x").is_ok());
        assert!(said(" ffmpeg,avx512", "ffmpeg", "x").unwrap_err().contains("lists ffmpeg"));
        assert!(said("", "fmpeg", "x").unwrap_err().contains("none of the names"));
        for unknown in ["fmpeg", "ffmpeg libavcodec", "avx512,sse9", "FFMPEG"] {
            assert!(said(unknown, "ffmpeg", "x").unwrap_err().contains("is not known"), "{unknown}");
        }
    }

    /// Checks the variable itself, because no other test reads it on a machine that has everything.
    #[test]
    fn the_variable_lists_known_names() {
        let required = std::env::var(VARIABLE).unwrap_or_default();
        assert!(names(&required).is_ok(), "{:?}", names(&required));
    }
}
