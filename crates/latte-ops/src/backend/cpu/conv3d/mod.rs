//! Convolutions and pooling over time, height and width, on all threads.
//!
//! The patches of some output positions are copied side by side, one part of the matmul's depth at a time, so that the copy stays
//! in the L2 cache and all patches are never in memory at once. A copy moves one value where the matmul does as many
//! multiplications as the result has channels. Kernels of 1 × 1 × 1 need no copy.

mod convolve;
mod pool;

use candle_core::Tensor;

use super::buffer::{Shared, Unwritten};
use super::gemm::{Kernel, Matrix, Packed};
use super::slices::Values;
use crate::backend::{Prepared3d, reference};
use crate::ops::conv3d::{Branch, Branches};
use crate::{Precision, Result, Value};

/// The weight and bias of a convolution, packed once for the processor's instructions.
#[derive(Debug)]
pub(crate) struct Packed3d {
    packed: Packed,
    bias: Vec<f32>,
}

pub(super) fn prepare_conv3d(weight: &Value, bias: &Value) -> Result<Prepared3d> {
    let (weight, bias) = (weight.fetch()?, bias.fetch()?);
    let (output, input, t, h, w) = weight.dims5()?;
    let rows = weight.permute((0, 2, 3, 4, 1))?.contiguous()?; // [out, time, height, width, in]
    let k = t * h * w * input;
    let packed = Packed::new(Kernel::of(Precision::F32), Matrix::rows(&Values::of(&rows)?, k).transposed(), k, output);
    Ok(Prepared3d::Packed(Packed3d { packed, bias: bias.to_vec1()? }))
}

pub(super) fn side_by_side(call: &Branches<'_>) -> Result<Value> {
    let is_plain =
        |branch: &Branch<'_>| matches!(branch, Branch::Convolution(_, c) if matches!(c.prepared, Prepared3d::Plain { .. }));
    if call.branches.iter().any(is_plain) {
        return reference::side_by_side(call);
    }
    let shape = call.shape();
    let channels = shape[4];
    let mut out = Unwritten::<f32>::new(shape.iter().product());
    let result = out.as_mut_ptr();
    let mut offset = 0;
    for (branch, sizes) in call.branches.iter().zip(call.sizes) {
        // SAFETY: the channels of this branch lie inside the result's.
        let target = Target { first: Shared::new(unsafe { result.add(offset) }), stride: channels };
        let x = branch.volume().value().fetch()?.contiguous()?;
        let values = Values::of(&x)?;
        // SAFETY: each position of the target has as many channels, with a distance of `stride`, and no other branch writes them.
        unsafe {
            match branch {
                Branch::Convolution(_, convolution) => convolve::run(&values, convolution, sizes, target),
                Branch::Pool(_, pool, window) => pool::run(&values, *pool, window, sizes, target),
            }
        }
        offset += sizes.channels[1];
    }
    // SAFETY: every branch wrote all its channels at all positions, and together they are all channels.
    let values = unsafe { out.written() };
    Ok(Tensor::from_vec(values, &shape, call.branches[0].volume().value().fetch()?.device())?.into())
}

/// The output of a branch: its channels begin at `first`, and `stride` is the distance from position to position.
#[derive(Debug, Clone, Copy)]
struct Target {
    first: Shared<f32>,
    stride: usize,
}
