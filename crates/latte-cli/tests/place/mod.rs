//! A folder that the built program works in.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A temporary folder, removed afterwards.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn empty() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_latte"));
        command.current_dir(self.dir.path()).args(args).env_remove("RUST_BACKTRACE").env("LATTE_CACHE", self.path("cache"));
        command
    }

    pub(crate) fn latte(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs and expects success; returns standard output and standard error.
    pub(crate) fn both(&self, args: &[&str]) -> (String, String) {
        let output = self.latte(args);
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "latte {}: {stderr}", args.join(" "));
        (text(&output.stdout), stderr)
    }

    /// Runs and expects success; returns standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.both(args).0
    }

    /// Runs and expects the refusal of bad input: exit code 2, and one line with the reason as the last line. Returns all lines of
    /// standard error.
    pub(crate) fn refusal(&self, args: &[&str]) -> Vec<String> {
        let output = self.latte(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "latte {}: {stderr}", args.join(" "));
        assert!(!stderr.contains("panicked"), "{stderr}");
        let lines: Vec<String> = stderr.lines().map(String::from).collect();
        let errors = lines.iter().filter(|line| line.starts_with("error: ")).count();
        assert!(errors == 1 && lines.last().is_some_and(|last| last.starts_with("error: ")), "{stderr}");
        lines
    }

    /// The line with the reason of the refusal.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        self.refusal(args).pop().unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of the repository's `testdata`.
pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// Copies a folder and everything below it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
