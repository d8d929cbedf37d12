//! The reference formulation.

use candle_core::{D, Result, Tensor};

use crate::ops::dot_product_attention::DotProduct;
use crate::tape::{Computed, Gradient};

pub(crate) fn dot_product_attention(call: &DotProduct<'_>) -> crate::Result<Computed<'static>> {
    let (like, heads, scale) = (call.q.clone(), call.num_heads, call.scale);
    let [q, k, v] = [call.q, call.k, call.v].map(|part| split(&part.fetch()?, heads).map_err(crate::Error::from));
    let (q, k, v) = (q?, k?, v?); // [b, heads, l, k]
    let mut scores = q.matmul(&k.t()?.contiguous()?)?; // [b, heads, l, l]
    if scale != 1.0 {
        scores = (scores * scale)?;
    }
    if let Some(bias) = call.bias {
        scores = scores.broadcast_add(&bias.fetch()?)?;
    }
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    let y = like.like(join(&weights.matmul(&v)?)?)?;
    Ok(Computed::new(y, move |gradient, _| {
        let gradient = split(&gradient.value.fetch()?, heads)?;
        let dv = weights.t()?.contiguous()?.matmul(&gradient)?;
        let dp = gradient.matmul(&v.t()?.contiguous()?)?;
        // Softmax: ds = p·(dp − Σ dp·p).
        let ds = ((&weights * dp.broadcast_sub(&(&dp * &weights)?.sum_keepdim(D::Minus1)?)?)? * scale)?;
        let (dq, dk) = (ds.matmul(&k)?, ds.t()?.contiguous()?.matmul(&q)?);
        [dq, dk, dv].into_iter().map(|part| Ok(Some(Gradient::owned(like.like(join(&part)?)?)))).collect()
    }))
}

/// `[b, l, heads·k]` as `[b, heads, l, k]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, l, d) = x.dims3()?;
    x.reshape((b, l, heads, d / heads))?.transpose(1, 2)?.contiguous()
}

/// The inverse of [`split`].
fn join(x: &Tensor) -> Result<Tensor> {
    let (b, heads, l, k) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((b, l, heads * k))
}
