//! What changes weights.

pub(crate) mod adamw_ema;
