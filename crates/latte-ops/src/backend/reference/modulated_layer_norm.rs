//! The reference formulation.

use candle_core::{Result, Tensor};

use super::layer_norm::{backward_normalise, normalise};
use crate::Value;
use crate::tape::{Computed, Context, Gradient};

pub(crate) fn modulated_layer_norm(
    _: Context<'_>,
    x: &Value,
    shift: &Value,
    scale: &Value,
    eps: f64,
) -> crate::Result<Computed<'static>> {
    let (like, scale) = (x.clone(), scale.fetch()?);
    let (y, saved) = forward(&x.fetch()?, &shift.fetch()?, &scale, eps)?;
    Ok(Computed::new(x.like(y)?, move |gradient, _| {
        let found = backward(&saved, &scale, &gradient.value.fetch()?)?;
        found.into_iter().map(|tensor| Ok(Some(Gradient::owned(like.like(tensor)?)))).collect()
    }))
}

/// The saved values for the backward pass.
pub(crate) struct Saved {
    normal: Tensor,
    inverse_std: Tensor,
}

/// `[…, d]` as `[g, rows, d]`.
fn grouped(x: &Tensor, groups: usize, d: usize) -> Result<Tensor> {
    x.reshape((groups, x.elem_count() / groups / d, d))
}

pub(crate) fn forward(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<(Tensor, Saved)> {
    let (groups, d) = scale.dims2()?;
    let (normal, inverse_std) = normalise(&grouped(x, groups, d)?, eps)?; // [g, rows, d], [g, rows, 1]
    let y = normal.broadcast_mul(&(scale + 1.0)?.unsqueeze(1)?)?.broadcast_add(&shift.unsqueeze(1)?)?;
    Ok((y.reshape(x.dims())?, Saved { normal, inverse_std }))
}

/// The gradients of `x`, `shift` and `scale`.
pub(crate) fn backward(saved: &Saved, scale: &Tensor, gradient: &Tensor) -> Result<[Tensor; 3]> {
    let (groups, d) = scale.dims2()?;
    let grouped = grouped(gradient, groups, d)?;
    let scaled = grouped.broadcast_mul(&(scale + 1.0)?.unsqueeze(1)?)?;
    let dx = backward_normalise(&saved.normal, &saved.inverse_std, &scaled)?.reshape(gradient.dims())?;
    Ok([dx, grouped.sum(1)?, (&grouped * &saved.normal)?.sum(1)?])
}
