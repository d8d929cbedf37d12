//! Errors on their way to the terminal: one line, and an exit code that says whose turn it is.
//!
//! Exit code 2: the input is wrong (a file, an option, a configuration), and the line says what to do. Exit code 1: the work
//! itself failed (the disk is full, the loss is no number). 130 and 143: Ctrl-C, or a request to terminate, stopped the work.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::interrupt::Interrupted;

/// Input that the command itself refuses.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// An error about the input, from a message.
pub(crate) fn bad_input(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// Prints the error as one line and returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Who asked for it needs no message.
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return ExitCode::from(interrupted.exit_code());
    }
    crate::terminal::note(&format!("error: {}", one_line(error)));
    ExitCode::from(if is_bad_input(error) { 2 } else { 1 })
}

/// What to print, and the exit code, where the command line itself could not be read: help and version as they are, everything
/// else as one line.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe is no failure.
        let _ = error.print();
    } else {
        crate::terminal::note(&usage_line(&error.render().to_string()));
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// The message of the command-line parser without its usage summary, in one line.
fn usage_line(rendered: &str) -> String {
    let is_summary = |line: &str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines: Vec<&str> =
        rendered.lines().map(str::trim).take_while(|line| !is_summary(line)).filter(|line| !line.is_empty()).collect();
    format!("{}; --help says more", lines.join(" "))
}

/// The chain of causes in one line. A cause that the text before it already contains is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = flat(&cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// A message without line breaks, and without the call stack that the tensor library may append.
fn flat(message: &str) -> String {
    let is_stack = |line: &str| line.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let lines: Vec<&str> =
        message.lines().map(str::trim).take_while(|line| !is_stack(line)).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn is_bad_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.downcast_ref().is_some_and(is_bad_video)
            || cause.downcast_ref().is_some_and(is_bad_weights)
            || cause.downcast_ref().is_some_and(is_bad_model_input)
            || cause.downcast_ref().is_some_and(is_bad_request)
            || cause.downcast_ref().is_some_and(is_bad_training_input)
            || cause.downcast_ref().is_some_and(is_bad_evaluation_input)
            || cause.downcast_ref().is_some_and(is_bad_demo)
            || cause.downcast_ref().is_some_and(is_bad_plot)
            || cause.downcast_ref().is_some_and(is_bad_path)
    })
}

fn is_bad_video(error: &latte_video::Error) -> bool {
    use latte_video::Error;
    // What the system says about a file is judged by itself.
    !matches!(error, Error::Io { .. } | Error::Encode { .. } | Error::Ffmpeg { .. })
}

fn is_bad_model_input(error: &latte_model::Error) -> bool {
    use latte_model::Error;
    match error {
        Error::Config { .. } | Error::Shape { .. } | Error::NewerLayout { .. } => true,
        // Transparent: the chain of causes goes past it.
        Error::Weights(inner) => is_bad_weights(inner),
        Error::Io { source, .. } => is_bad_path(source),
        _ => false,
    }
}

fn is_bad_request(error: &latte::Error) -> bool {
    use latte::Error;
    match error {
        Error::Config { .. } => true,
        // Transparent: the chain of causes goes past them.
        Error::Model(inner) => is_bad_model_input(inner),
        Error::Video(latte_video::Error::Io { source, .. }) | Error::Io { source, .. } => is_bad_path(source),
        Error::Video(inner) => is_bad_video(inner),
        _ => false,
    }
}

fn is_bad_weights(error: &latte_model::weights::Error) -> bool {
    use latte_model::weights::Error;
    match error {
        Error::File { .. } | Error::Shape { .. } => true,
        Error::Io { source, .. } => is_bad_path(source),
        _ => false,
    }
}

fn is_bad_training_input(error: &latte_train::Error) -> bool {
    use latte_train::Error;
    match error {
        Error::Config { .. } | Error::Data { .. } | Error::Checkpoint { .. } => true,
        // Transparent: the chain of causes goes past them.
        Error::Latte(inner) => is_bad_model_input(inner),
        Error::Generate(inner) => is_bad_request(inner),
        Error::Video(latte_video::Error::Io { source, .. }) => is_bad_path(source),
        Error::Video(inner) => is_bad_video(inner),
        Error::Io { source, .. } => is_bad_path(source),
        _ => false,
    }
}

fn is_bad_evaluation_input(error: &latte_eval::Error) -> bool {
    use latte_eval::Error;
    match error {
        Error::Refused { .. } | Error::File { .. } => true,
        // Transparent: the chain of causes goes past them.
        Error::Weights(inner) => is_bad_weights(inner),
        Error::Video(latte_video::Error::Io { source, .. }) => is_bad_path(source),
        Error::Video(inner) => is_bad_video(inner),
        Error::Io { source, .. } => is_bad_path(source),
        _ => false,
    }
}

fn is_bad_demo(error: &latte_demo::Error) -> bool {
    use latte_demo::Error;
    match error {
        Error::NoClass { .. } => true,
        // Transparent: the chain of causes goes past it.
        Error::Video(latte_video::Error::Io { source, .. }) | Error::Io { source, .. } => is_bad_path(source),
        Error::Video(inner) => is_bad_video(inner),
    }
}

fn is_bad_plot(error: &latte_plot::Error) -> bool {
    use latte_plot::Error;
    match error {
        Error::NoRun { .. } | Error::Metric { .. } => true,
        // Transparent: the chain of causes goes past it.
        Error::Log(inner) => is_bad_training_input(inner),
    }
}

/// Whether the system complains about the path that was given, not about the machine.
fn is_bad_path(error: &std::io::Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidData, InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let kinds = [AlreadyExists, InvalidData, InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chain_is_one_line_and_says_nothing_twice() {
        let io = || std::io::Error::new(ErrorKind::NotFound, "no such file");
        let error =
            Err::<(), _>(latte_model::Error::Io { path: "a/b".into(), source: io() }).context("cannot sample").unwrap_err();
        assert_eq!(one_line(&error), "cannot sample: a/b: no such file");
        assert!(is_bad_input(&error));
        let error = anyhow::anyhow!("first\n\n  second\n   0: std::backtrace\n   1: more");
        assert_eq!(one_line(&error), "first; second");
    }

    #[test]
    fn the_parsers_message_is_one_line() {
        let rendered =
            "error: unexpected argument '--clas' found\n\n  tip: a similar argument exists: '--class'\n\nUsage: latte sample\n";
        let expected = "error: unexpected argument '--clas' found tip: a similar argument exists: '--class'; --help says more";
        assert_eq!(usage_line(rendered), expected);
    }

    #[test]
    fn a_full_disk_is_not_the_users_input() {
        let full = std::io::Error::new(ErrorKind::StorageFull, "no space left");
        let error = anyhow::Error::new(latte_model::Error::Io { path: "x".into(), source: full });
        assert!(!is_bad_input(&error));
        assert!(!is_bad_input(&anyhow::anyhow!("a bug")));
        assert!(is_bad_input(&bad_input("class 9 is out of range").context("while sampling")));
    }
}
