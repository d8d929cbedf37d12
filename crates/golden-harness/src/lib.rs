//! The `main` of test programs in which each golden file is a test.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};

use golden::{Checked, GoldenFile};
use libtest_mimic::{Arguments, Trial};

/// Runs each file of [`golden::directory`] whose kind `owner` owns as a test. Takes the usual arguments of a test program (`--list`,
/// a filter, `--exact`, `--skip`, `--quiet`), and prints the errors of the files that passed at the end.
///
/// `check` gets the path and the kind's name. A kind that no list knows, a configuration key outside its kind's list, and a
/// directory without files of `owner` are failures.
pub fn run(owner: &str, check: fn(&Path, &str) -> Checked) -> ExitCode {
    let arguments = Arguments::from_args();
    let (sender, passed) = mpsc::channel();
    let conclusion = libtest_mimic::run(&arguments, tests(owner, &golden::directory(), check, &sender));
    if !arguments.quiet {
        let mut lines: Vec<String> = passed.try_iter().collect();
        lines.sort();
        // A lint keeps `print!` out of libraries.
        let _ = write!(std::io::stdout(), "{}", lines.concat());
    }
    conclusion.exit_code()
}

/// The owner whose program reports the files that no program checks yet.
const REPORTS_THE_REST: &str = "latte-selftest";

/// A test for each file of `directory` that `owner` owns; one that passes sends its line to `passed`.
fn tests(owner: &str, directory: &Path, check: fn(&Path, &str) -> Checked, passed: &Sender<String>) -> Vec<Trial> {
    let test = |file: GoldenFile| {
        let passed = passed.clone();
        Trial::test(file.name(), move || {
            let report = file.report(check);
            let line = format!("{report}\n");
            if report.passed() { Ok(passed.send(line)?) } else { Err(line.into()) }
        })
    };
    let mut tests: Vec<Trial> = match golden::files_of(owner, directory) {
        Ok((files, _)) => files.into_iter().map(test).collect(),
        Err(e) => vec![Trial::test("golden_files", || Err(e.into()))],
    };
    // One program reports them: as tests that are ignored, by name.
    if owner == REPORTS_THE_REST {
        let rest = golden::files_without_runner(directory).unwrap_or_default();
        tests.extend(rest.into_iter().map(|name| {
            Trial::test(name, || Err("no crate checks this kind yet".into())).with_ignored_flag(true).with_kind("no runner")
        }));
    }
    tests
}

#[cfg(test)]
mod tests {
    use golden::Check;

    use super::*;

    /// The names of the tests, whether any fails, and the lines of those that pass.
    fn run_tests(folder: &Path) -> (Vec<String>, bool, String) {
        let check = |_: &Path, kind: &str| -> Checked { Ok(vec![Check { what: kind.into(), error: 0.5, tolerance: 1.0 }]) };
        let (sender, passed) = mpsc::channel();
        let tests = tests("latte-selftest", folder, check, &sender);
        let names = tests.iter().map(|test| test.name().to_string()).collect();
        let quiet = Arguments { logfile: Some("/dev/null".into()), ..Arguments::default() };
        let failed = libtest_mimic::run(&quiet, tests).has_failed();
        (names, failed, passed.try_iter().collect())
    }

    #[test]
    fn each_file_of_the_owner_is_a_test_and_none_at_all_is_one_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let none = (vec!["golden_files".to_string()], true, String::new());
        assert_eq!(run_tests(folder.path()), none);
        assert_eq!(run_tests(&folder.path().join("missing")), none);
        let write = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        write("of_others_keys.json");
        assert_eq!(run_tests(folder.path()), none);
        write("a_tokens.json");
        let line = "a_tokens.json: ok: tokens 5.0e-1 (≤ 1e0)\n".to_string();
        assert_eq!(run_tests(folder.path()), (vec!["a_tokens.json".into()], false, line.clone()));
        write("notes.txt");
        assert_eq!(run_tests(folder.path()), (vec!["a_tokens.json".into(), "notes.txt".into()], true, line));
    }
}
