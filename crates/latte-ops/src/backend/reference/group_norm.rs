//! The reference formulation.

use candle_core::{DType, Result, Tensor, Var as Leaf};

use crate::ops::group_norm::Grouped;
use crate::tape::{Computed, Gradient};
use crate::{Error, Normalisation, Value};

pub(crate) fn group_sums(x: &Value) -> crate::Result<Vec<[f64; 2]>> {
    let x = x.fetch()?;
    let &[images, .., c] = x.dims() else { unreachable!("images have channels") };
    Ok(sums(&x.reshape((images, (), c))?)?)
}

#[expect(clippy::needless_pass_by_value, reason = "every backend's operation takes its call")]
pub(crate) fn group_norm(call: Grouped<'_>) -> crate::Result<Computed<'static>> {
    let (x, like, groups, eps, silu) = (call.x.fetch()?, call.x.clone(), call.groups(), call.eps(), call.silu);
    let [weight, bias] = call.parameters().map(Value::fetch);
    let (weight, bias) = (weight?, bias?);
    let y = like.like(forward(&x, &weight, &bias, groups, eps, silu)?)?;
    Ok(Computed::new(y, move |gradient, _| {
        // The tensor library computes the gradients.
        let leaves = [Leaf::from_tensor(&x)?, Leaf::from_tensor(&weight)?, Leaf::from_tensor(&bias)?];
        let y = forward(&leaves[0], &leaves[1], &leaves[2], groups, eps, silu)?;
        let mut found = (y * gradient.value.fetch()?)?.sum_all()?.backward()?;
        let mut take = |leaf: &Leaf| {
            let gradient = found.remove(leaf).ok_or(Error::NoGradient("group_norm"))?;
            Ok(Some(Gradient::owned(like.like(gradient)?)))
        };
        leaves.iter().map(&mut take).collect()
    }))
}

impl Normalisation {
    /// `x` `[n, …, c]` normalised, with SiLU if it is asked for, on the device of `x`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, device) = (self.images(), self.channels(), x.device());
        let vectors = |values: &[f32]| Tensor::from_slice(values, (n, 1, c), device);
        let y = x.reshape((n, (), c))?.broadcast_sub(&vectors(&self.mean)?)?.broadcast_mul(&vectors(&self.scale)?)?;
        let y = y.broadcast_add(&Tensor::from_slice(&self.bias, c, device)?)?.reshape(x.dims())?;
        if self.silu { y.silu() } else { Ok(y) }
    }
}

/// Sum and sum of squares of each channel of `[n, places, c]`, in f64.
fn sums(x: &Tensor) -> Result<Vec<[f64; 2]>> {
    let x = x.to_dtype(DType::F64)?;
    let (sums, squares) = (x.sum(1)?.flatten_all()?.to_vec1()?, x.sqr()?.sum(1)?.flatten_all()?.to_vec1()?);
    Ok(sums.into_iter().zip(squares).map(|(sum, square)| [sum, square]).collect())
}

/// Computed in f64, with the variance as the mean square distance from the mean.
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
