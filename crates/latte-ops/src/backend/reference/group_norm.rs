//! The reference formulation.

use candle_core::{DType, Result, Tensor};

/// Sum and sum of squares of each channel of `[n, places, c]`, in f64.
pub(crate) fn sums(x: &Tensor) -> Result<Vec<[f64; 2]>> {
    let x = x.to_dtype(DType::F64)?;
    let (sums, squares) = (x.sum(1)?.flatten_all()?.to_vec1()?, x.sqr()?.sum(1)?.flatten_all()?.to_vec1()?);
    Ok(sums.into_iter().zip(squares).map(|(sum, square)| [sum, square]).collect())
}

/// In f64, with the variance as the mean square distance from the mean.
#[cfg(test)]
pub(crate) fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Tensor> {
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
