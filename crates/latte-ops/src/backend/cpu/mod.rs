//! The CPU: kernels for f32, on all threads.

mod adamw_ema;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
pub(super) mod conv3d;
pub(super) mod convolution;
mod gated_residual;
mod gemm;
mod group_norm;
pub(crate) mod instruction_set;
mod linear;
mod modulated_layer_norm;
mod operand;
pub(crate) mod packed_weight_cache;
mod row_groups;
pub(super) mod slices;
pub(crate) mod vectorised;

use candle_core::{DType, Tensor};

use super::{Backend, Prepared, Prepared3d, fallbacks, reference};
use crate::ops::activation::Activation;
use crate::ops::attention::SelfAttention;
use crate::ops::conv3d::Branches;
use crate::ops::convolution::{Frames, Images};
use crate::ops::cross_attention::CrossAttention;
use crate::ops::group_norm::Grouped;
use crate::ops::linear::Linear;
use crate::optim::adamw_ema::{AdamWState, Update};
use crate::tape::{Computed, Context};
use crate::{Precision, Result, Value};

/// Whether the kernels can read the tensor: f32 values, or words of pairs that a kernel rounded to bfloat16 for matmuls.
pub(super) fn has_kernels_for(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::BF16)
}

/// The CPU backend.
#[derive(Debug)]
pub(super) struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn linear(&self, call: &Linear<'_>) -> Result<Computed<'static>> {
        linear::linear(call)
    }

    fn linear_gelu(&self, call: &Linear<'_>) -> Result<Computed<'static>> {
        linear::linear_gelu(call)
    }

    fn linear_gated(&self, call: &Linear<'_>, residual: &Value, gate: &Value) -> Result<Value> {
        linear::linear_gated(call, residual, gate)
    }

    fn gated_residual(&self, x: &Value, gate: &Value, y: &Value) -> Result<Computed<'static>> {
        gated_residual::gated_residual(x, gate, y)
    }

    fn modulated_layer_norm(
        &self,
        context: Context<'_>,
        x: &Value,
        shift: &Value,
        scale: &Value,
        eps: f64,
    ) -> Result<Computed<'static>> {
        modulated_layer_norm::modulated_layer_norm(context, x, shift, scale, eps)
    }

    fn activation(&self, x: &Value, kind: Activation) -> Result<Computed<'static>> {
        if kind == Activation::Gelu {
            return linear::gelu_alone(x);
        }
        fallbacks::count("activation");
        reference::activation(x, kind)
    }

    fn attention(&self, call: &SelfAttention<'_>) -> Result<Computed<'static>> {
        attention::attention(call)
    }

    fn cross_attention(&self, call: &CrossAttention<'_>) -> Result<Computed<'static>> {
        attention::cross::cross_attention(call)
    }

    fn prepare_convolution(&self, weight: &Value, bias: &Value, precision: Precision) -> Result<Prepared> {
        convolution::prepare_convolution(weight, bias, precision)
    }

    fn convolution(&self, call: &Images<'_>) -> Result<Computed<'static>> {
        convolution::convolution(call)
    }

    fn convolution_over_frames(&self, call: &Frames<'_>) -> Result<Vec<Value>> {
        convolution::convolution_over_frames(call)
    }

    fn group_sums(&self, x: &Value) -> Result<Vec<[f64; 2]>> {
        group_norm::group_sums(x)
    }

    fn group_norm(&self, call: Grouped<'_>) -> Result<Computed<'static>> {
        group_norm::group_norm(call)
    }

    fn prepare_conv3d(&self, weight: &Value, bias: &Value) -> Result<Prepared3d> {
        conv3d::prepare_conv3d(weight, bias)
    }

    fn side_by_side(&self, call: &Branches<'_>) -> Result<Value> {
        conv3d::side_by_side(call)
    }

    fn add_gradient(&self, held: &Value, more: &Value, own: bool) -> Result<Value> {
        slices::add_gradient(held, more, own)
    }

    fn add_assign(&self, target: &Value, source: &Value) -> Result<()> {
        slices::add_assign(target, source)
    }

    fn sum_of_squares(&self, values: &[&Value]) -> Result<f64> {
        slices::sum_of_squares(values)
    }

    fn adamw_ema(&self, update: &Update, gradient: &Value, state: &AdamWState<'_>) -> Result<()> {
        adamw_ema::adamw_ema(update, gradient, state)
    }
}
