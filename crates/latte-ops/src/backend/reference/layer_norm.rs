//! The reference formulation of normalisation over the last axis, which the modulated layer norm uses too.

use candle_core::{D, Result, Tensor};

/// The normalised values, and 1/√(variance + eps) `[…, 1]`.
pub(crate) fn normalise(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let inverse_std = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&inverse_std)?, inverse_std))
}

/// The gradient of `x` from that of its normalised values: (g − mean g − n·mean(g·n)) / std.
pub(crate) fn backward_normalise(normal: &Tensor, inverse_std: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let mean = gradient.mean_keepdim(D::Minus1)?;
    let projection = (gradient * normal)?.mean_keepdim(D::Minus1)?;
    gradient.broadcast_sub(&mean)?.sub(&normal.broadcast_mul(&projection)?)?.broadcast_mul(inverse_std)
}

/// The sum over all axes but the last: `[…, d]` to `[d]`.
pub(crate) fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let d = x.dim(D::Minus1)?;
    x.reshape((x.elem_count() / d, d))?.sum(0)
}
