//! The reference formulation.

use candle_core::{Result, Tensor};

use crate::ops::linear::Linear;
use crate::tape::{Computed, Gradient};
use crate::{Precision, Value};

pub(crate) fn linear(call: &Linear<'_>) -> crate::Result<Computed<'static>> {
    let layer = Layer::new(call)?;
    let y = layer.like.like(layer.forward()?)?;
    Ok(Computed::new(y, move |gradient, wanted| layer.backward(&gradient.value.fetch()?, wanted)))
}

pub(crate) fn linear_gelu(call: &Linear<'_>) -> crate::Result<Computed<'static>> {
    let layer = Layer::new(call)?;
    let before = layer.forward()?;
    let y = layer.like.like(gelu(&before)?)?;
    Ok(Computed::new(y, move |gradient, wanted| layer.backward(&backward_gelu(&before, &gradient.value.fetch()?)?, wanted)))
}

pub(crate) fn linear_gated(call: &Linear<'_>, residual: &Value, gate: &Value) -> crate::Result<Value> {
    let y = linear(call)?.into_value();
    Ok(super::gated_residual::gated_residual(residual, gate, &y)?.into_value())
}

/// A linear layer as tensors of the library.
struct Layer {
    precision: Precision,
    /// The value whose device gets the results.
    like: Value,
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Layer {
    fn new(call: &Linear<'_>) -> crate::Result<Self> {
        let [x, weight] = [call.x, call.weight].map(|v| v.value().fetch());
        let bias = call.bias.map(|bias| bias.value().fetch()).transpose()?;
        Ok(Self { precision: call.context.precision, like: call.x.value().clone(), x: x?, weight: weight?, bias })
    }

    fn forward(&self) -> Result<Tensor> {
        forward(self.precision, &self.x, &self.weight, self.bias.as_ref())
    }

    /// The gradients of input, weight and bias from the output's.
    fn backward(&self, gradient: &Tensor, wanted: &[bool]) -> crate::Result<Vec<Option<Gradient>>> {
        let dx = || backward_input(self.precision, &self.weight, gradient);
        let dw = || backward_weight(self.precision, &self.x, gradient);
        let db = || backward_bias(gradient);
        let work: [&dyn Fn() -> Result<Tensor>; 3] = [&dx, &dw, &db];
        let found = work
            .iter()
            .zip(wanted)
            .map(|(work, &wanted)| wanted.then(|| Ok(Gradient::owned(self.like.like(work()?)?))).transpose());
        found.collect()
    }
}

/// √(2/π), from the tanh approximation of GELU.
pub(crate) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic coefficient of the tanh approximation of GELU.
pub(crate) const CUBIC: f64 = 0.044_715;

/// All axes but the last as one: `[rows, last]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    let last = x.dim(candle_core::D::Minus1)?;
    x.reshape((x.elem_count() / last, last))
}

pub(crate) fn forward(precision: Precision, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = precision.operand(&rows(x)?)?.matmul(&precision.operand(weight)?.t()?)?; // [rows, out]
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = weight.dim(0)?;
    }
    y.reshape(shape)
}

pub(crate) fn backward_input(precision: Precision, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let dx = precision.operand(&rows(gradient)?)?.matmul(&precision.operand(weight)?)?; // [rows, in]
    let mut shape = gradient.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = weight.dim(1)?;
    }
    dx.reshape(shape)
}

pub(crate) fn backward_weight(precision: Precision, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    precision.operand(&rows(gradient)?)?.t()?.matmul(&precision.operand(&rows(x)?)?) // [out, in]
}

pub(crate) fn backward_bias(gradient: &Tensor) -> Result<Tensor> {
    rows(gradient)?.sum(0)
}

pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu()
}

/// d gelu/dx = ½(1 + tanh u) + ½x(1 − tanh² u)·u′, where u = √(2/π)(x + 0.044715x³).
pub(crate) fn backward_gelu(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let square = x.sqr()?;
    let tanh = (square.affine(CUBIC * SQRT_2_OVER_PI, SQRT_2_OVER_PI)? * x)?.tanh()?;
    let slope = square.affine(3.0 * CUBIC * SQRT_2_OVER_PI, SQRT_2_OVER_PI)?;
    let inner = ((tanh.sqr()?.affine(-0.5, 0.5)? * x)? * slope)?;
    (tanh.affine(0.5, 0.5)? + inner)? * gradient
}
