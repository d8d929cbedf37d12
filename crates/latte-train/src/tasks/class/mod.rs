//! Class-conditional and unconditional models.

pub(crate) mod noising;
pub(crate) mod step;
