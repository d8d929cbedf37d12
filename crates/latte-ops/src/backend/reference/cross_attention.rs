//! The reference formulation.

use candle_core::{D, Tensor};

use crate::ops::cross_attention::{CrossAttention, Layout};
use crate::tape::{Computed, Gradient};
use crate::{Precision, Result};

pub(crate) fn cross_attention(call: &CrossAttention<'_>) -> Result<Computed<'static>> {
    let (precision, layout, like, bias) = (call.context.precision, call.layout, call.q.clone(), finite_bias(call)?);
    let (q, kv) = (call.q.fetch()?, call.kv.fetch()?);
    let y = like.like(forward(precision, &layout, &q, &kv, bias.as_ref())?)?;
    Ok(Computed::new(y, move |gradient, _| {
        let found = backward(precision, &layout, &q, &kv, bias.as_ref(), &gradient.value.fetch()?)?;
        found.into_iter().map(|tensor| Ok(Some(Gradient::owned(like.like(tensor)?)))).collect()
    }))
}

/// The bias clamped to finite values: −∞ for all keys of a clip would give ∞ − ∞ in the softmax.
pub(crate) fn finite_bias(call: &CrossAttention<'_>) -> Result<Option<Tensor>> {
    call.bias.map(|bias| Ok(bias.fetch()?.contiguous()?.clamp(f32::MIN / 4.0, f32::MAX / 4.0)?)).transpose()
}

/// Queries, keys and values `[b, heads, tokens, k]`, and their softmax `[b, heads, queries, keys]`.
pub(crate) fn parts(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
) -> Result<[Tensor; 4]> {
    let Layout { b, queries, keys, num_heads, head_size } = *layout;
    let q = q.reshape((b, queries, num_heads, head_size))?.transpose(1, 2)?.contiguous()?;
    let kv = kv.reshape((b, keys, 2, num_heads, head_size))?;
    let part = |i: usize| kv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let [q, k, v] = [precision.operand(&q)?, precision.operand(&part(0)?)?, precision.operand(&part(1)?)?];
    let mut scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (head_size as f64).sqrt()))?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&bias.reshape((b, 1, 1, keys))?)?;
    }
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let p = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    Ok([q, k, v, p])
}

pub(crate) fn forward(precision: Precision, layout: &Layout, q: &Tensor, kv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [_, _, v, p] = parts(precision, layout, q, kv, bias)?;
    Ok(precision.operand(&p)?.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape(q.dims())?)
}

pub(crate) fn backward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    let Layout { b, queries, num_heads, head_size, .. } = *layout;
    let [q_heads, k, v, p] = parts(precision, layout, q, kv, bias)?;
    let gradient = gradient.reshape((b, queries, num_heads, head_size))?.transpose(1, 2)?.contiguous()?;
    let gradient = precision.operand(&gradient)?;
    let dv = precision.operand(&p)?.transpose(2, 3)?.contiguous()?.matmul(&gradient)?;
    let dp = gradient.matmul(&v.transpose(2, 3)?.contiguous()?)?;
    let ds = (&p * dp.broadcast_sub(&(&dp * &p)?.sum_keepdim(D::Minus1)?)?)?;
    let ds = precision.operand(&(ds * (1.0 / (head_size as f64).sqrt()))?)?;
    let (dq, dk) = (ds.matmul(&k)?, ds.transpose(2, 3)?.contiguous()?.matmul(&q_heads)?);
    let dkv = Tensor::stack(&[dk.transpose(1, 2)?, dv.transpose(1, 2)?], 2)?; // [b, keys, 2, heads, k]
    Ok([dq.transpose(1, 2)?.contiguous()?.reshape(q.dims())?, dkv.reshape(kv.dims())?])
}
