//! Prints errors as one line and returns an exit code that says whether the input was wrong or the work failed.
//!
//! Exit code 2: the input is wrong (a file, an option, a configuration), and the line says what to do. Exit code 1: the work failed
//! (the disk is full, the loss is NaN). 130 and 143: Ctrl-C, or a request to terminate, stopped the work.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::interrupt::{self, Interrupted};

/// Input that the command refuses.
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
    let fault = fault(error);
    // A user who stopped the work needs no message.
    if fault != Fault::Stopped {
        crate::terminal::note(&format!("error: {}", one_line(error)));
    }
    ExitCode::from(exit_code(error, fault))
}

fn exit_code(error: &anyhow::Error, fault: Fault) -> u8 {
    match fault {
        Fault::Internal => 1,
        Fault::Input => 2,
        Fault::Stopped => error.downcast_ref().map_or(interrupt::BY_CTRL_C, Interrupted::exit_code),
    }
}

/// Prints an error of the command line parser and returns the exit code: help and version unchanged, everything else as one line.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe is not an error.
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

/// The chain of causes in one line. A cause that the text before it already contains is left out.
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

/// The kind of fault. In a chain of causes, the last kind in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The work failed: the machine or this program is at fault.
    Internal,
    /// The input is wrong: a file, an option, a configuration.
    Input,
    /// The user stopped the work.
    Stopped,
}

fn fault(error: &anyhow::Error) -> Fault {
    error.chain().map(of_cause).max().unwrap_or(Fault::Internal)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Fault {
    if cause.is::<BadInput>() {
        return Fault::Input;
    }
    if cause.is::<Interrupted>() {
        return Fault::Stopped;
    }
    None.or_else(|| cause.downcast_ref().map(of_video))
        .or_else(|| cause.downcast_ref().map(of_weights))
        .or_else(|| cause.downcast_ref().map(of_ops))
        .or_else(|| cause.downcast_ref().map(of_model))
        .or_else(|| cause.downcast_ref().map(of_facade))
        .or_else(|| cause.downcast_ref().map(of_training))
        .or_else(|| cause.downcast_ref().map(of_evaluation))
        .or_else(|| cause.downcast_ref().map(of_demo))
        .or_else(|| cause.downcast_ref().map(of_plot))
        .or_else(|| cause.downcast_ref().map(of_system))
        .unwrap_or(Fault::Internal)
}

/// Whether the user can mend what is wrong with a video: the file, or what was asked for.
pub(crate) fn is_of_input(error: &latte_video::Error) -> bool {
    of_video(error) == Fault::Input
}

// The matches below name every variant, so a new variant does not compile until its exit code is decided.

fn of_video(error: &latte_video::Error) -> Fault {
    use latte_video::Error;
    match error {
        Error::NotVideo { .. }
        | Error::Unsupported { .. }
        | Error::Damaged { .. }
        | Error::Folder { .. }
        | Error::Manifest { .. }
        | Error::FrameIndex { .. }
        | Error::Window(_)
        | Error::Shape(_)
        // A program that was asked for.
        | Error::NoProgram { .. }
        | Error::Format { .. } => Fault::Input,
        Error::Ffmpeg { .. } | Error::Encode { .. } => Fault::Internal,
        Error::Labels(inner) => of_video(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_ops(error: &latte_ops::Error) -> Fault {
    use latte_ops::Error;
    match error {
        // The device that the user selected.
        Error::Device(_) => Fault::Input,
        Error::Shape { .. } | Error::MissingParameter(_) | Error::NoGradient(_) | Error::Recompute(_) | Error::Tensor(_) => {
            Fault::Internal
        }
        Error::Cancelled => Fault::Stopped,
    }
}

fn of_weights(error: &latte_model::weights::Error) -> Fault {
    use latte_model::weights::Error;
    match error {
        Error::File { .. } | Error::Shape { .. } => Fault::Input,
        Error::Tensor(_) => Fault::Internal,
        Error::Ops(inner) => of_ops(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_model(error: &latte_model::Error) -> Fault {
    use latte_model::Error;
    match error {
        Error::Config { .. } | Error::NewerLayout { .. } => Fault::Input,
        // Shapes of tensors that this program made: those of files are errors of weights.
        Error::Shape { .. } | Error::NotFinite { .. } | Error::Tensor(_) => Fault::Internal,
        Error::Weights(inner) => of_weights(inner),
        Error::Ops(inner) => of_ops(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_facade(error: &latte::Error) -> Fault {
    use latte::Error;
    match error {
        Error::Config { .. } => Fault::Input,
        Error::Cancelled => Fault::Stopped,
        Error::Model(inner) => of_model(inner),
        Error::Video(inner) => of_video(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_training(error: &latte_train::Error) -> Fault {
    use latte_train::Error;
    match error {
        Error::Config { .. } | Error::Data { .. } | Error::Checkpoint { .. } => Fault::Input,
        Error::Diverged { .. } | Error::NoGradient(_) | Error::Tensor(_) => Fault::Internal,
        Error::Evaluator(cause) => of_cause(cause.as_ref()),
        Error::Latte(inner) => of_model(inner),
        Error::Generate(inner) => of_facade(inner),
        Error::Video(inner) => of_video(inner),
        Error::Ops(inner) => of_ops(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_evaluation(error: &latte_eval::Error) -> Fault {
    use latte_eval::Error;
    match error {
        Error::Refused { .. } | Error::File { .. } => Fault::Input,
        Error::Tensor(_) => Fault::Internal,
        Error::Weights(inner) => of_weights(inner),
        Error::Video(inner) => of_video(inner),
        Error::Ops(inner) => of_ops(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_demo(error: &latte_demo::Error) -> Fault {
    use latte_demo::Error;
    match error {
        Error::NoClass { .. } => Fault::Input,
        Error::Video(inner) => of_video(inner),
        Error::Io { source, .. } => of_system(source),
    }
}

fn of_plot(error: &latte_plot::Error) -> Fault {
    use latte_plot::Error;
    match error {
        Error::NoRun { .. } | Error::Metric { .. } => Fault::Input,
        Error::Log(inner) => of_training(inner),
    }
}

/// Whether a system error is about the path that was given, or about the machine.
fn of_system(error: &std::io::Error) -> Fault {
    use ErrorKind::{AlreadyExists, InvalidData, InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let kinds = [AlreadyExists, InvalidData, InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied];
    if kinds.contains(&error.kind()) { Fault::Input } else { Fault::Internal }
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
        assert_eq!(code(&error), 2);
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
        assert_eq!(code(&anyhow::Error::new(latte_model::Error::Io { path: "x".into(), source: full_disk() })), 1);
        assert_eq!(code(&anyhow::anyhow!("a bug")), 1);
        assert_eq!(code(&bad_input("class 9 is out of range").context("while sampling")), 2);
    }

    #[test]
    fn a_stop_by_a_signal_has_the_signals_code_through_every_context() {
        let interrupt = interrupt::Interrupt::default();
        assert_eq!(code(&interrupt.error().context("while training")), 130);
        assert_eq!(code(&interrupt::tests::terminated().context("while training")), 143);
    }

    fn code(error: &anyhow::Error) -> u8 {
        exit_code(error, fault(error))
    }

    fn full_disk() -> std::io::Error {
        std::io::Error::new(ErrorKind::StorageFull, "no space left")
    }

    fn no_file() -> std::io::Error {
        std::io::Error::new(ErrorKind::NotFound, "no such file")
    }

    fn tensor() -> candle_core::Error {
        candle_core::Error::Msg("out of memory".into())
    }

    /// Compares the exit code of each error, alone and with a context, with the number beside it. `variant` numbers the variants
    /// from 0; each of the `variants` must occur.
    fn compare<E>(cases: Vec<(E, u8)>, variants: usize, variant: fn(&E) -> usize)
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut seen = vec![false; variants];
        for (error, expected) in cases {
            seen[variant(&error)] = true;
            let name = format!("{error:?}");
            assert_eq!(code(&anyhow::Error::new(error).context("while working")), expected, "{name}");
        }
        let missing = seen.iter().position(|seen| !seen);
        assert_eq!(missing, None, "no case for a variant of {}", std::any::type_name::<E>());
    }

    #[test]
    fn each_refusal_of_ops_and_weights_has_its_code() {
        use latte_model::weights::Error as Weights;
        use latte_ops::Error as Ops;

        let cases = vec![
            (Ops::Shape { op: "matmul", expected: "[2, 2]".into(), got: "[3]".into() }, 1),
            (Ops::MissingParameter("x".into()), 1),
            (Ops::NoGradient("x"), 1),
            (Ops::Recompute("failed".into()), 1),
            (Ops::Cancelled, 130),
            (Ops::Device("no such device".into()), 2),
            (Ops::Tensor(tensor()), 1),
        ];
        compare(cases, 7, |error| match error {
            Ops::Shape { .. } => 0,
            Ops::MissingParameter(_) => 1,
            Ops::NoGradient(_) => 2,
            Ops::Recompute(_) => 3,
            Ops::Cancelled => 4,
            Ops::Device(_) => 5,
            Ops::Tensor(_) => 6,
        });
        let cases = vec![
            (Weights::File { path: "x".into(), what: "cut off".into() }, 2),
            (Weights::Shape { name: "x".into(), expected: "[2]".into(), got: vec![3] }, 2),
            (Weights::Io { path: "x".into(), source: no_file() }, 2),
            (Weights::Io { path: "x".into(), source: full_disk() }, 1),
            (Weights::Tensor(tensor()), 1),
            (Weights::Ops(Ops::Cancelled), 130),
        ];
        compare(cases, 5, |error| match error {
            Weights::File { .. } => 0,
            Weights::Shape { .. } => 1,
            Weights::Io { .. } => 2,
            Weights::Tensor(_) => 3,
            Weights::Ops(_) => 4,
        });
    }

    #[test]
    fn each_refusal_of_the_model_and_the_facade_has_its_code() {
        use latte::Error as Facade;
        use latte_model::Error as Model;

        let config = || Model::Config { key: "depth".into(), what: "expected at least 1, got 0".into() };
        let cases = vec![
            (config(), 2),
            (Model::Shape { name: "x".into(), expected: "[2]".into(), got: vec![3] }, 1),
            (Model::Weights(latte_model::weights::Error::File { path: "x".into(), what: "cut off".into() }), 2),
            (Model::Weights(latte_model::weights::Error::Tensor(tensor())), 1),
            (Model::NewerLayout { path: "x".into(), layout: 9, known: 1 }, 2),
            (Model::NotFinite { what: "x".into(), count: 1, of: 2, cause: None }, 1),
            (Model::Io { path: "x".into(), source: no_file() }, 2),
            (Model::Io { path: "x".into(), source: full_disk() }, 1),
            (Model::Tensor(tensor()), 1),
            (Model::Ops(latte_ops::Error::Cancelled), 130),
        ];
        compare(cases, 8, |error| match error {
            Model::Config { .. } => 0,
            Model::Shape { .. } => 1,
            Model::Weights(_) => 2,
            Model::NewerLayout { .. } => 3,
            Model::NotFinite { .. } => 4,
            Model::Io { .. } => 5,
            Model::Tensor(_) => 6,
            Model::Ops(_) => 7,
        });
        let cases = vec![
            (Facade::Cancelled, 130),
            (Facade::Config { key: "steps".into(), problem: "expected at least 1, got 0".into() }, 2),
            (Facade::Model(Model::NewerLayout { path: "x".into(), layout: 9, known: 1 }), 2),
            (Facade::Model(Model::Tensor(tensor())), 1),
            (Facade::Video(latte_video::Error::Window("too short".into())), 2),
            (Facade::Video(latte_video::Error::Encode { path: "x".into(), what: "failed".into() }), 1),
            (Facade::Io { path: "x".into(), source: no_file() }, 2),
            (Facade::Io { path: "x".into(), source: full_disk() }, 1),
        ];
        compare(cases, 5, |error| match error {
            Facade::Cancelled => 0,
            Facade::Config { .. } => 1,
            Facade::Model(_) => 2,
            Facade::Video(_) => 3,
            Facade::Io { .. } => 4,
        });
    }

    #[test]
    fn each_refusal_of_videos_and_evaluations_has_its_code() {
        use latte_eval::Error as Evaluation;
        use latte_video::Error as Video;

        let what = || "a word".to_string();
        let cases = vec![
            (Video::Io { path: "x".into(), source: no_file() }, 2),
            (Video::Io { path: "x".into(), source: full_disk() }, 1),
            (Video::NotVideo { path: "x".into(), what: what() }, 2),
            (Video::Unsupported { path: "x".into(), what: what() }, 2),
            (Video::Damaged { path: "x".into(), what: what() }, 2),
            (Video::Folder { path: "x".into(), what: what() }, 2),
            (Video::Manifest { path: "x".into(), place: "line 1".into(), what: what() }, 2),
            (Video::Labels(Box::new(Video::Folder { path: "x".into(), what: what() })), 2),
            (Video::FrameIndex { path: "x".into(), index: 9, total: 8 }, 2),
            (Video::Window(what()), 2),
            (Video::Shape(what()), 2),
            (Video::NoProgram { path: "x".into(), program: "ffmpeg", instead: "decoder" }, 2),
            (Video::Ffmpeg { path: "x".into(), what: what() }, 1),
            (Video::Format { path: "x".into(), what: what() }, 2),
            (Video::Encode { path: "x".into(), what: what() }, 1),
        ];
        compare(cases, 14, |error| match error {
            Video::Io { .. } => 0,
            Video::NotVideo { .. } => 1,
            Video::Unsupported { .. } => 2,
            Video::Damaged { .. } => 3,
            Video::Folder { .. } => 4,
            Video::Manifest { .. } => 5,
            Video::Labels(_) => 6,
            Video::FrameIndex { .. } => 7,
            Video::Window(_) => 8,
            Video::Shape(_) => 9,
            Video::Ffmpeg { .. } => 10,
            Video::Encode { .. } => 11,
            Video::NoProgram { .. } => 12,
            Video::Format { .. } => 13,
        });
        let cases = vec![
            (Evaluation::Refused { subject: "clips".into(), what: what() }, 2),
            (Evaluation::File { path: "x".into(), what: what() }, 2),
            (Evaluation::Io { path: "x".into(), source: no_file() }, 2),
            (Evaluation::Io { path: "x".into(), source: full_disk() }, 1),
            (Evaluation::Weights(latte_model::weights::Error::File { path: "x".into(), what: what() }), 2),
            (Evaluation::Video(Video::Window(what())), 2),
            (Evaluation::Ops(latte_ops::Error::NoGradient("x")), 1),
            (Evaluation::Tensor(tensor()), 1),
        ];
        compare(cases, 7, |error| match error {
            Evaluation::Refused { .. } => 0,
            Evaluation::File { .. } => 1,
            Evaluation::Io { .. } => 2,
            Evaluation::Weights(_) => 3,
            Evaluation::Video(_) => 4,
            Evaluation::Ops(_) => 5,
            Evaluation::Tensor(_) => 6,
        });
    }

    #[test]
    fn each_refusal_of_training_has_its_code() {
        use latte_train::Error as Train;

        let what = || "a word".to_string();
        let cases = vec![
            (Train::Config { source_name: "x.toml".into(), key: "train".into(), what: what() }, 2),
            (Train::Data { path: "x".into(), what: what() }, 2),
            (Train::Checkpoint { path: "x".into(), what: what() }, 2),
            (Train::Diverged { step: 1, what: what(), checkpoint: None }, 1),
            (Train::NoGradient("x".into()), 1),
            (Train::Evaluator(Box::new(latte_eval::Error::Refused { subject: "clips".into(), what: what() })), 2),
            (Train::Evaluator("a bug".into()), 1),
            (Train::Io { path: "x".into(), source: no_file() }, 2),
            (Train::Io { path: "x".into(), source: full_disk() }, 1),
            (Train::Latte(latte_model::Error::NewerLayout { path: "x".into(), layout: 9, known: 1 }), 2),
            (Train::Latte(latte_model::Error::Tensor(tensor())), 1),
            (Train::Generate(latte::Error::Cancelled), 130),
            (Train::Video(latte_video::Error::Window(what())), 2),
            (Train::Ops(latte_ops::Error::Device(what())), 2),
            (Train::Tensor(tensor()), 1),
        ];
        compare(cases, 12, |error| match error {
            Train::Config { .. } => 0,
            Train::Data { .. } => 1,
            Train::Checkpoint { .. } => 2,
            Train::Diverged { .. } => 3,
            Train::NoGradient(_) => 4,
            Train::Evaluator(_) => 5,
            Train::Io { .. } => 6,
            Train::Latte(_) => 7,
            Train::Generate(_) => 8,
            Train::Video(_) => 9,
            Train::Ops(_) => 10,
            Train::Tensor(_) => 11,
        });
    }
}
