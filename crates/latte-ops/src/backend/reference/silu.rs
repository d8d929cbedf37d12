//! The reference formulation.

use candle_core::{Result, Tensor};

use crate::Value;
use crate::tape::{Computed, Gradient};

pub(crate) fn silu(x: &Value) -> crate::Result<Computed<'static>> {
    let (like, x) = (x.clone(), x.fetch()?);
    Ok(Computed::new(like.like(forward(&x)?)?, move |gradient, _| {
        Ok(vec![Some(Gradient::owned(like.like(backward(&x, &gradient.value.fetch()?)?)?))])
    }))
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // ½(1 + tanh(x/2)) does not overflow for large |x|.
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

fn forward(x: &Tensor) -> Result<Tensor> {
    x * sigmoid(x)?
}

/// d silu/dx = s + x·s·(1 − s).
fn backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let s = sigmoid(x)?;
    let slope = (&s + ((x * &s)? * s.affine(-1.0, 1.0)?)?)?;
    gradient * slope
}
