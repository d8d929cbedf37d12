//! The reference formulation.

use candle_core::{Result, Tensor};

use crate::Value;
use crate::tape::{Computed, Gradient};

pub(crate) fn gated_residual(x: &Value, gate: &Value, y: &Value) -> crate::Result<Computed<'static>> {
    let (like, gate, y) = (x.clone(), gate.fetch()?, y.fetch()?);
    let value = x.like(forward(&x.fetch()?, &gate, &y)?)?;
    Ok(Computed::new(value, move |gradient, _| {
        let (dgate, dy) = backward(&gate, &y, &gradient.value.fetch()?)?;
        let owned = |tensor| Ok::<_, crate::Error>(Some(Gradient::owned(like.like(tensor)?)));
        let (dgate, dy) = (owned(dgate)?, owned(dy)?);
        Ok(vec![Some(gradient), dgate, dy])
    }))
}

/// `[…, d]` as `[g, rows, d]`.
fn grouped(x: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let (groups, d) = gate.dims2()?;
    x.reshape((groups, x.elem_count() / groups / d, d))
}

pub(crate) fn forward(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    grouped(x, gate)?.add(&grouped(y, gate)?.broadcast_mul(&gate.unsqueeze(1)?)?)?.reshape(x.dims())
}

/// The gradients of `gate` and `y`; the gradient of `x` is `gradient` itself.
pub(crate) fn backward(gate: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let gradient_rows = grouped(gradient, gate)?;
    let gate_gradient = (&gradient_rows * grouped(y, gate)?)?.sum(1)?;
    Ok((gate_gradient, gradient_rows.broadcast_mul(&gate.unsqueeze(1)?)?.reshape(y.dims())?))
}
