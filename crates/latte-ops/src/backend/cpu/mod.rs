//! Kernels for f32 on the CPU.

pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod buffer;
pub(crate) mod conv3d;
pub(crate) mod convolution;
pub(crate) mod gated_residual;
pub(crate) mod gemm;
pub(crate) mod group_norm;
pub(crate) mod instruction_set;
pub(crate) mod linear;
pub(crate) mod modulated_layer_norm;
pub(crate) mod operand;
pub(crate) mod packed_weight_cache;
pub(crate) mod row_groups;
pub(crate) mod slices;
pub(crate) mod vectorised;
