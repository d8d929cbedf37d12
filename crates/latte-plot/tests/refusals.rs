//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.

use latte_plot::{Error, Horizontal, Logs, PlotRequest, chart};

/// The test that provokes the variant: a new variant does not compile until it has one.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::NoRun { .. } => "a_folder_without_a_run",
        Error::Metric { .. } => "a_metric_that_no_run_has",
        Error::Log(_) => "a_log_of_something_else",
    }
}

#[test]
fn a_folder_without_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let error = Logs::read(dir.path()).unwrap_err();
    assert_eq!(provoked_by(&error), "a_folder_without_a_run");
    assert!(matches!(&error, Error::NoRun { path } if path == dir.path()), "{error:?}");
}

#[test]
fn a_metric_that_no_run_has() {
    let request = PlotRequest { metrics: &["taste".to_string()], horizontal: Horizontal::Step, smooth: 0.0, log: false };
    let error = chart(&[], &request).unwrap_err();
    assert_eq!(provoked_by(&error), "a_metric_that_no_run_has");
    assert!(matches!(&error, Error::Metric { metric, problem } if metric == "taste" && !problem.is_empty()), "{error:?}");
}

#[test]
fn a_log_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("metrics.jsonl");
    std::fs::write(&log, "no record\n").unwrap();
    let error = Logs::read(dir.path()).unwrap_err();
    assert_eq!(provoked_by(&error), "a_log_of_something_else");
    let fits = |what: &str| what.starts_with("line 1: ");
    assert!(
        matches!(&error, Error::Log(latte_train::Error::Checkpoint { path, what }) if *path == log && fits(what)),
        "{error:?}"
    );
}
