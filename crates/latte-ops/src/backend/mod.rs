//! The backends that compute the operations. An operation calls a method of a [`Backend`]; only [`of`] chooses which backend, by
//! the values of the call. A device is a folder here: a tensor type that implements
//! [`device_tensor::DeviceTensor`], and its backend.

pub(crate) mod cpu;
mod device_tensor;
mod fallbacks;
mod forced;
mod prepared;
pub(crate) mod reference;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod tests;
mod value;

pub use fallbacks::fallbacks;
pub use forced::use_reference;
pub(crate) use forced::{by_reference, is_forced};
pub(crate) use prepared::{Prepared, Prepared3d};
use value::Repr;
pub use value::Value;

use crate::ops::activation::Activation;
use crate::ops::attention::SelfAttention;
use crate::ops::conv3d::Branches;
use crate::ops::convolution::{Frames, Images};
use crate::ops::cross_attention::CrossAttention;
use crate::ops::dot_product_attention::DotProduct;
use crate::ops::group_norm::Grouped;
use crate::ops::linear::Linear;
use crate::optim::adamw_ema::{AdamWState, Update};
use crate::tape::{Computed, Context};
use crate::{Precision, Result};

/// The backend for an operation on `values`: that of the device where all of them are.
pub(crate) fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> &'static dyn Backend {
    if is_forced() {
        return &reference::Reference;
    }
    let mut chosen: Option<&'static dyn Backend> = None;
    for value in values {
        let own: &'static dyn Backend = match value.repr() {
            Repr::Host(tensor) if cpu::has_kernels_for(tensor) => &cpu::Cpu,
            Repr::Host(_) => &reference::Reference,
            Repr::Device(tensor) => tensor.backend(),
        };
        if chosen.is_some_and(|chosen| chosen.name() != own.name()) {
            return &reference::Reference;
        }
        chosen = Some(own);
    }
    chosen.unwrap_or(&reference::Reference)
}

/// Lists the operations of a backend. The default of each is the reference formulation.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)*) => {
        /// The names of all operations.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// Computes operations on one kind of device. The default of a method is the reference formulation, which copies the values
        /// to the CPU if the tensor library does not support the device, and is counted ([`fallbacks`]).
        pub(crate) trait Backend: Sync {
            /// The backend's name, which is unique.
            fn name(&self) -> &'static str;

            $($(#[$doc])* fn $name(&self, $($arg: $ty),*) -> Result<$ret> {
                fallbacks::count(stringify!($name));
                reference::$name($($arg),*)
            })*
        }
    };
}

operations! {
    /// A linear layer.
    fn linear(call: &Linear<'_>) -> Computed<'static>;
    /// GELU of a linear layer.
    fn linear_gelu(call: &Linear<'_>) -> Computed<'static>;
    /// `residual + gate · layer`, on a tape that does not record.
    fn linear_gated(call: &Linear<'_>, residual: &Value, gate: &Value) -> Value;
    /// `x + gate · y`.
    fn gated_residual(x: &Value, gate: &Value, y: &Value) -> Computed<'static>;
    /// A layer norm with a shift and a scale for each group of rows.
    fn modulated_layer_norm(context: Context<'_>, x: &Value, shift: &Value, scale: &Value, eps: f64) -> Computed<'static>;
    /// A layer norm with weight and bias.
    fn layer_norm(x: &Value, weight: &Value, bias: &Value, eps: f64) -> Computed<'static>;
    /// RMS norm: divides by the root of the mean square.
    fn rms_norm(x: &Value, weight: &Value, eps: f64) -> Computed<'static>;
    /// `x · sigmoid(x)`.
    fn silu(x: &Value) -> Computed<'static>;
    /// An elementwise activation.
    fn activation(x: &Value, kind: Activation) -> Computed<'static>;
    /// Rows of a table.
    fn embedding(table: &Value, indices: &[u32]) -> Computed<'static>;
    /// Self-attention.
    fn attention(call: &SelfAttention<'_>) -> Computed<'static>;
    /// Cross-attention.
    fn cross_attention(call: &CrossAttention<'_>) -> Computed<'static>;
    /// Attention with a bias on its scores.
    fn dot_product_attention(call: &DotProduct<'_>) -> Computed<'static>;
    /// `x + y`, with `y` broadcast.
    fn add(x: &Value, y: &Value) -> Computed<'static>;
    /// `x · y`, elementwise.
    fn mul(x: &Value, y: &Value) -> Computed<'static>;
    /// The same values in another shape.
    fn reshape(x: &Value, dims: &[usize]) -> Computed<'static>;
    /// Axes in another order.
    fn permute(x: &Value, axes: &[usize], inverse: Vec<usize>) -> Computed<'static>;
    /// A part of an axis.
    fn narrow(x: &Value, axis: usize, start: usize, len: usize) -> Computed<'static>;
    /// Zero padding along an axis.
    fn pad(x: &Value, axis: usize, zeros: [usize; 2]) -> Computed<'static>;
    /// The parts concatenated along an axis.
    fn concat(parts: &[&Value], axis: usize) -> Computed<'static>;
    /// Zeros with the device and dtype of `like`.
    fn zeros(like: &Value, dims: &[usize]) -> Value;
    /// Writes a part into a tensor, in place.
    fn put_slice(target: &Value, part: &Value, axis: usize, start: usize) -> ();
    /// The mean over an axis.
    fn mean_axis(x: &Value, axis: usize) -> Computed<'static>;
    /// Each row, repeated several times.
    fn repeat_rows(x: &Value, times: usize) -> Computed<'static>;
    /// The weights of a convolution in the form that this backend reads.
    fn prepare_convolution(weight: &Value, bias: &Value, precision: Precision) -> Prepared;
    /// A convolution of images.
    fn convolution(call: &Images<'_>) -> Computed<'static>;
    /// A convolution over frames.
    fn convolution_over_frames(call: &Frames<'_>) -> Vec<Value>;
    /// Sum and sum of squares of each channel `[n, c]` of `x` `[n, …, c]`.
    fn group_sums(x: &Value) -> Vec<[f64; 2]>;
    /// A group norm.
    fn group_norm(call: Grouped<'_>) -> Computed<'static>;
    /// The weights of a 3-D convolution in the form that this backend reads.
    fn prepare_conv3d(weight: &Value, bias: &Value) -> Prepared3d;
    /// 3-D convolutions and pooling, concatenated along the channels.
    fn side_by_side(call: &Branches<'_>) -> Value;
    /// `held + more`; in the memory of `held` if `own` is set.
    fn add_gradient(held: &Value, more: &Value, own: bool) -> Value;
    /// `target += source`, in place.
    fn add_assign(target: &Value, source: &Value) -> ();
    /// The sum of the squares of all values of all tensors, in f64.
    fn sum_of_squares(values: &[&Value]) -> f64;
    /// A step of AdamW and of the moving average, in place.
    fn adamw_ema(update: &Update, gradient: &Value, state: &AdamWState<'_>) -> ();
}
