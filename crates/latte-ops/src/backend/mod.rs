//! What computes the operations.

pub(crate) mod cpu;
pub(crate) mod forced;
pub(crate) mod reference;
