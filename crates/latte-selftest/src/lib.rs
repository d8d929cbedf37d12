//! Whether this build of the program computes what it should, on this machine and on this device: every operation against its
//! reference formulation, and every golden file of the networks, samplers and the trainer against what the reference gave.
//!
//! The command `latte selftest` and the test `golden` run the same checks.

mod parity;

use std::path::Path;

use candle_core::Device;
use golden::{Check, FileReport};
use latte_ops::selftest::OPERATIONS;

/// The name under which the table of kinds has this crate.
pub const OWNER: &str = "latte-selftest";

/// What keeps the checks from being run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The golden files are not there.
    #[error("golden files: {0}; say where they lie (--golden FOLDER: the source tree's testdata/golden)")]
    Golden(String),
}

/// All comparisons of one golden file: see [`golden::run`].
///
/// # Errors
///
/// If the file is damaged, of a kind that has no check here, or the work fails.
pub fn check_file(device: &Device, path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn std::error::Error>> {
    parity::check(device, path, kind)
}

/// Tries every operation on `device`, and tells `report` of each.
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

/// Runs every golden file of the folder `golden` that has a check here, on `device`, and tells `report` of each. Gives the number of
/// files that have none: those of pixels and of detectors, which no device but the CPU works on.
///
/// # Errors
///
/// If the folder cannot be read, or is empty.
pub fn golden_files(device: &Device, golden: &Path, report: &mut dyn FnMut(FileReport)) -> Result<usize, Error> {
    let check = |path: &Path, kind: &str| check_file(device, path, kind);
    golden::each_file(OWNER, golden, check, report).map_err(|e| Error::Golden(e.to_string()))
}
