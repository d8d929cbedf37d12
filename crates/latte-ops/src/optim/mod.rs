//! Functions that update weights and gradients in place.

pub(crate) mod adamw_ema;
mod sums;

pub use sums::{add_assign, global_norm};
