//! The plain formulation.

use candle_core::{DType, Result, Tensor};

/// In f64, with the variance as the mean square distance from the mean.
pub(super) fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Tensor> {
    let (n, c) = (x.dims()[0], weight.elem_count());
    let grouped = x.to_dtype(DType::F64)?.reshape((n, (), groups, c / groups))?.transpose(1, 2)?.contiguous()?; // [n, g, places, c/g]
    let grouped = grouped.reshape((n, groups, ()))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
    let std = (centred.sqr()?.mean_keepdim(2)? + eps)?.sqrt()?;
    let normal = centred.broadcast_div(&std)?.reshape((n, groups, (), c / groups))?.transpose(1, 2)?.contiguous()?;
    let normal = normal.reshape(x.dims())?.to_dtype(DType::F32)?;
    let y = normal.broadcast_mul(weight)?.broadcast_add(bias)?;
    if silu { y.silu() } else { Ok(y) }
}
