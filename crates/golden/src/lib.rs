//! Reads the reference tensors that parity tests compare with.
//!
//! A golden file holds inputs, parameters and outputs that another program (the official PyTorch code, diffusers, torch)
//! produced; `testdata/golden/README.md` gives the format. `latte selftest` and the tests read them. Each crate that owns kinds of golden files has one integration
//! test program named `golden`, in which **every** file of [`directory`] is a test (see the crate `golden-harness`), so that further
//! files can be tried without touching code:
//!
//! ```text
//! LATTE_GOLDEN_DIR=/path/to/more cargo test --release --workspace --test golden
//! ```

mod case;
mod formula;
mod kinds;
mod runner;

pub use case::{Array, Case, GoldenError};
pub use formula::{Formula, formula_pixels, formula_weight};
pub use kinds::{KINDS, Kind};
pub use runner::{Check, Checked, FileReport, GoldenFile, directory, files_of, files_without_runner, relative_error};
