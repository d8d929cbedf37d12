//! Convolutions and pools over time, height and width.

pub(crate) mod convolve;
pub(crate) mod pool;
