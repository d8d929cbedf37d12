//! The reference formulations, in operations of the tensor library, for every device that it supports; kernels are tested against
//! them. Values of other devices are copied to the CPU, and results are copied back.

mod activation;
mod adamw_ema;
pub(crate) mod attention;
mod conv3d;
pub(crate) mod convolution;
pub(crate) mod cross_attention;
mod dot_product_attention;
mod embedding;
pub(crate) mod gated_residual;
pub(crate) mod group_norm;
mod layer_norm;
pub(crate) mod linear;
pub(crate) mod modulated_layer_norm;
mod movement;
mod rms_norm;
mod silu;
mod sums;

pub(super) use activation::activation;
pub(super) use adamw_ema::adamw_ema;
pub(super) use attention::attention;
pub(super) use conv3d::{prepare_conv3d, side_by_side};
pub(super) use convolution::{convolution, convolution_over_frames, prepare_convolution};
pub(super) use cross_attention::cross_attention;
pub(super) use dot_product_attention::dot_product_attention;
pub(super) use embedding::embedding;
pub(super) use gated_residual::gated_residual;
pub(super) use group_norm::{group_norm, group_sums};
pub(super) use layer_norm::layer_norm;
pub(super) use linear::{linear, linear_gated, linear_gelu};
pub(super) use modulated_layer_norm::modulated_layer_norm;
pub(super) use movement::{add, concat, mean_axis, mul, narrow, pad, permute, put_slice, repeat_rows, reshape, zeros};
pub(super) use rms_norm::rms_norm;
pub(super) use silu::silu;
pub(super) use sums::{add_assign, add_gradient, sum_of_squares};

use super::Backend;

/// The backend that uses the tensor library, on the device of the values.
#[derive(Debug)]
pub(super) struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }
}
