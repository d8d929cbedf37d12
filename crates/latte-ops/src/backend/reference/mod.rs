//! The reference formulations, in the operations of the tensor library.

pub(crate) mod adamw_ema;
pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod gated_residual;
pub(crate) mod group_norm;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod modulated_layer_norm;
pub(crate) mod silu;
