//! The reference formulations.

use candle_core::{Result, Tensor};

use super::linear::{backward_gelu, gelu};
use crate::Value;
use crate::ops::activation::Activation;
use crate::tape::{Computed, Gradient};

/// The factor in the sigmoid of CLIP's GELU.
const QUICK_GELU: f64 = 1.702;

pub(crate) fn activation(x: &Value, kind: Activation) -> crate::Result<Computed<'static>> {
    let (like, x) = (x.clone(), x.fetch()?);
    let y = match kind {
        Activation::Relu => x.relu()?,
        Activation::Silu => x.silu()?,
        Activation::QuickGelu => (&x * sigmoid(&x, QUICK_GELU)?)?,
        Activation::Gelu => gelu(&x)?,
    };
    Ok(Computed::new(like.like(y)?, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let slope = match kind {
            Activation::Relu => x.gt(0f32)?.to_dtype(x.dtype())?,
            Activation::Silu => slope(&x, 1.0)?,
            Activation::QuickGelu => slope(&x, QUICK_GELU)?,
            Activation::Gelu => backward_gelu(&x, &gradient.ones_like()?)?,
        };
        Ok(vec![Some(Gradient::owned(like.like((gradient * slope)?)?))])
    }))
}

/// `1 / (e^(−a·x) + 1)`.
fn sigmoid(x: &Tensor, a: f64) -> Result<Tensor> {
    ((x * -a)?.exp()? + 1.0)?.recip()
}

/// The slope of `x · sigmoid(a·x)`: `s + a·x·s·(1 − s)`.
fn slope(x: &Tensor, a: f64) -> Result<Tensor> {
    let s = sigmoid(x, a)?;
    &s + ((x * a)? * (&s * s.affine(-1.0, 1.0)?)?)?
}
