//! One file per command: its options with their help, and what it does.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod dry_run;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod inspect;
pub(crate) mod plot;
mod run_args;
pub(crate) mod runs;
pub(crate) mod sample;
pub(crate) mod selftest;
pub(crate) mod t2v;
pub(crate) mod train;
pub(crate) mod train_vae;
