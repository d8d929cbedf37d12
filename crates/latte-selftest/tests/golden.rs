//! Parity of the networks, the samplers and the trainer with the reference on every golden file of their kinds.

use std::process::ExitCode;

use candle_core::Device;

fn main() -> ExitCode {
    golden_harness::run(latte_selftest::OWNER, |path, kind| latte_selftest::check_file(&Device::Cpu, path, kind))
}
