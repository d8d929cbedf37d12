//! (config)
pub(crate) mod source;
