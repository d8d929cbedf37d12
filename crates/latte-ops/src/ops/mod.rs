//! The operations, one file or folder each: they check shapes and record. `backend/` chooses what computes them.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod canvas;
pub(crate) mod conv3d;
pub(crate) mod convolution;
pub(crate) mod cross_attention;
pub(crate) mod dot_product_attention;
pub(crate) mod embedding;
pub(crate) mod gated_residual;
pub(crate) mod group_norm;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod modulated_layer_norm;
pub(crate) mod movement;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod silu;
