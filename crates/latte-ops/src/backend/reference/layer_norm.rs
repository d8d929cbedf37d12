//! The reference formulation of normalisation over the last axis, which the modulated layer norm uses too.

use candle_core::{D, Result, Tensor};

use crate::Value;
use crate::tape::{Computed, Gradient};

pub(crate) fn layer_norm(x: &Value, weight: &Value, bias: &Value, eps: f64) -> crate::Result<Computed<'static>> {
    let (like, weight) = (x.clone(), weight.fetch()?);
    let (normal, inverse_std) = normalise(&x.fetch()?, eps)?;
    let y = normal.broadcast_mul(&weight)?.broadcast_add(&bias.fetch()?)?;
    Ok(Computed::new(x.like(y)?, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let dweight = sum_rows(&(&gradient * &normal)?)?;
        let dbias = sum_rows(&gradient)?;
        let dx = backward_normalise(&normal, &inverse_std, &gradient.broadcast_mul(&weight)?)?;
        [dx, dweight, dbias].into_iter().map(|tensor| Ok(Some(Gradient::owned(like.like(tensor)?)))).collect()
    }))
}

/// The normalised values, and 1/√(variance + eps) `[…, 1]`.
pub(super) fn normalise(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let inverse_std = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&inverse_std)?, inverse_std))
}

/// The gradient of `x` from that of its normalised values: (g − mean g − n·mean(g·n)) / std.
pub(super) fn backward_normalise(normal: &Tensor, inverse_std: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let mean = gradient.mean_keepdim(D::Minus1)?;
    let projection = (gradient * normal)?.mean_keepdim(D::Minus1)?;
    gradient.broadcast_sub(&mean)?.sub(&normal.broadcast_mul(&projection)?)?.broadcast_mul(inverse_std)
}

/// The sum over all axes but the last: `[…, d]` to `[d]`.
pub(super) fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let d = x.dim(D::Minus1)?;
    x.reshape((x.elem_count() / d, d))?.sum(0)
}
