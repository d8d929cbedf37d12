//! Checks that this build computes correctly on this machine and device: every operation against its reference formulation, and
//! every golden file of the networks, samplers and the trainer against the output of the reference program.
//!
//! The command `latte selftest` and the test `golden` run the same checks.

mod parity;

use std::path::Path;

use candle_core::Device;
use golden::{Check, FileReport};
use latte_ops::selftest::OPERATIONS;

/// The owner's name of this crate in the table of kinds.
pub const OWNER: &str = "latte-selftest";

/// An error that prevents the checks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The golden files are missing.
    #[error("golden files: {0}; give their folder (--golden FOLDER: testdata/golden of the source tree)")]
    Golden(String),
}

/// All comparisons of one golden file: see [`golden::Checked`].
///
/// # Errors
///
/// If the file is damaged, is of a kind without a check here, or the computation fails.
pub fn check_file(device: &Device, path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn std::error::Error>> {
    parity::check(device, path, kind)
}

/// Checks every operation on `device`, and passes each result to `report`.
pub fn operations(device: &Device, report: &mut dyn FnMut(FileReport)) {
    for operation in OPERATIONS {
        let converted = |check: latte_ops::selftest::OperationCheck| {
            let latte_ops::selftest::OperationCheck { what, error, tolerance } = check;
            Check { what, error, tolerance }
        };
        let checks = operation.check(device);
        let checks = checks.map(|checks| checks.into_iter().map(converted).collect()).map_err(|e| e.to_string());
        report(FileReport { name: operation.name.to_string(), checks });
    }
}

/// Checks every golden file in the folder `golden` that has a check here, on `device`, and passes each result to `report`. Returns
/// the number of files without one: those of pixels and of detectors, which run only on the CPU.
///
/// # Errors
///
/// If the folder cannot be read, or has no file that is checked here.
pub fn golden_files(device: &Device, golden: &Path, report: &mut dyn FnMut(FileReport)) -> Result<usize, Error> {
    let (files, others) = golden::files_of(OWNER, golden).map_err(Error::Golden)?;
    for file in files {
        report(file.report(|path, kind| check_file(device, path, kind)));
    }
    Ok(others)
}
