//! Parity of this crate with the reference on every golden file of its kinds.

mod detectors;
mod set_metrics;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use golden::Check;

fn check(path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn Error>> {
    match kind {
        "i3d" | "inception_fid" => detectors::outputs(path),
        "detector_keys" => detectors::keys(path),
        "set_metrics" => set_metrics::set_metrics(path),
        other => Err(format!("no check for kind `{other}`").into()),
    }
}

fn main() -> ExitCode {
    golden_harness::run("latte-eval", check)
}
