//! The reference formulation.

use candle_core::{Result, Tensor};

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // ½(1 + tanh(x/2)): no overflow at either end.
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

pub(crate) fn forward(x: &Tensor) -> Result<Tensor> {
    x * sigmoid(x)?
}

/// d silu/dx = s + x·s·(1 − s).
pub(crate) fn backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let s = sigmoid(x)?;
    let slope = (&s + ((x * &s)? * s.affine(-1.0, 1.0)?)?)?;
    gradient * slope
}
