//! `latte selftest`: checks that this build computes correctly on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use golden::{Check, FileReport};
use latte_ops::InstructionSet;

use crate::device::{self, DeviceArgs};
use crate::failure::bad_input;
use crate::terminal::say;

/// Compares the results of this build, on this machine and device, with the expected ones: every operation, forward and backward,
/// with its reference formulation on the CPU, and every golden file (outputs of the official code, diffusers and PyTorch) of the
/// networks, samplers and the trainer.
///
/// Prints one line per check with its error and tolerance, and a table at the end. Exit code 1 if any check fails.
/// --operations-only needs no golden files, which are in the source tree.
///
///   latte selftest --golden testdata/golden
///   latte selftest --device cuda:0 --operations-only
///   latte selftest --device cpu --reference
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// The folder of golden files. Default: $LATTE_GOLDEN_DIR, else testdata/golden.
    #[arg(long, value_name = "FOLDER")]
    golden: Option<PathBuf>,
    /// Skip the golden files.
    #[arg(long, conflicts_with = "golden")]
    operations_only: bool,
    /// Turn the CPU kernels off: every operation takes the same path as on a GPU, which tests that path without a GPU.
    #[arg(long, alias = "plain")]
    reference: bool,
}

/// Checks of one kind.
#[derive(Debug, Default)]
struct Group {
    passed: usize,
    failed: Vec<String>,
    /// The largest ratio of error to tolerance of a check that passed.
    closest: f64,
    took: Duration,
}

impl Group {
    fn add(&mut self, report: &FileReport) {
        let share = |check: &Check| if check.error == 0.0 { 0.0 } else { check.error / check.tolerance };
        let checks = report.checks.as_deref().unwrap_or_default();
        if report.passed() {
            self.passed += 1;
            self.closest = checks.iter().map(share).fold(self.closest, f64::max);
        } else {
            self.failed.push(report.name.clone());
        }
    }

    fn line(&self, name: &str) -> String {
        let Self { passed, failed, closest, took } = self;
        format!("{name:<14}{passed:>7}{:>8}{:>12.0} %{:>10.1} s", failed.len(), 100.0 * closest, took.as_secs_f64())
    }
}

/// A line about the operations for which the device has no kernel, if any.
fn fallbacks(counts: &BTreeMap<&'static str, u64>) -> Option<String> {
    let listed: Vec<String> = counts.iter().map(|(operation, times)| format!("{operation} ({times})")).collect();
    (!listed.is_empty()).then(|| format!("computed by reference formulations (how often): {}", listed.join(", ")))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    if args.reference {
        latte_ops::use_reference();
    }
    let way = if args.reference { ", reference formulations" } else { "" };
    say(&format!("latte {} on {}{way}; CPU kernels: {}", env!("CARGO_PKG_VERSION"), device::name(&device), {
        InstructionSet::current()
    }));

    let mut operations = Group::default();
    let start = Instant::now();
    latte_selftest::operations(&device, &mut |report| {
        say(&format!("operation {report}"));
        operations.add(&report);
    });
    operations.took = start.elapsed();

    let mut groups = vec![("operations", operations)];
    if !args.operations_only {
        let folder = args.golden.clone().or_else(|| std::env::var_os("LATTE_GOLDEN_DIR").map(PathBuf::from));
        let folder = folder.unwrap_or_else(|| PathBuf::from("testdata/golden"));
        let mut files = Group::default();
        let start = Instant::now();
        let others = latte_selftest::golden_files(&device, &folder, &mut |report| {
            say(&format!("golden {report}"));
            files.add(&report);
        });
        let others = others.map_err(|e| bad_input(e.to_string()))?;
        files.took = start.elapsed();
        say(&format!("golden: {others} files of pixels and detectors are not checked here, but by `cargo test --test golden`"));
        groups.push(("golden files", files));
    }

    if let Some(line) = fallbacks(&latte_ops::fallbacks()) {
        say(&line);
    }
    say("");
    say(&format!("{:<14}{:>7}{:>8}{:>14}{:>12}", "", "passed", "failed", "closest", "time"));
    for (name, group) in &groups {
        say(&group.line(name));
    }
    say("(closest: the largest ratio of error to tolerance of a check that passed)");
    let failed: Vec<&str> = groups.iter().flat_map(|(_, group)| &group.failed).map(String::as_str).collect();
    let passed: usize = groups.iter().map(|(_, group)| group.passed).sum();
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), failed.len() + passed, failed.join(", "));
    }
    if groups.iter().any(|(_, group)| group.passed == 0) {
        return Err(bad_input("there was nothing to check: no golden file of a known kind; give their folder (--golden FOLDER)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_without_a_kernel_are_listed_with_how_often() {
        assert_eq!(fallbacks(&BTreeMap::new()), None);
        let line = fallbacks(&BTreeMap::from([("silu", 3), ("add", 12)])).unwrap();
        assert_eq!(line, "computed by reference formulations (how often): add (12), silu (3)");
    }
}
