//! The reference formulation: copies the tokens into sequences, computes matmuls and softmax, and copies the result back.

use candle_core::{D, Result, Tensor};

use crate::ops::attention::{AttentionAxis, Layout, SelfAttention};
use crate::tape::{Computed, Gradient};
use crate::{Precision, Value};

pub(crate) fn attention(call: &SelfAttention<'_>) -> crate::Result<Computed<'static>> {
    let (precision, layout, like, qkv) = (call.context.precision, call.layout.in_frames(), call.qkv.clone(), call.qkv.fetch()?);
    let rope = call.rope.map(Tables::fetch).transpose()?;
    let (dims, output) = (call.qkv.dims().to_vec(), call.layout.output());
    let y = forward(precision, &layout, rope.as_ref(), &qkv)?.reshape(&output)?;
    Ok(Computed::new(like.like(y)?, move |gradient, _| {
        let dqkv = backward(precision, &layout, rope.as_ref(), &qkv, &gradient.value.fetch()?)?.reshape(dims)?;
        Ok(vec![Some(Gradient::owned(like.like(dqkv)?))])
    }))
}

/// Cosines and sines of rotary positions, `[positions, k/2]`.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    cos: Tensor,
    sin: Tensor,
}

impl Tables {
    pub(crate) fn fetch([cos, sin]: [&Value; 2]) -> crate::Result<Self> {
        Ok(Self { cos: cos.fetch()?, sin: sin.fetch()? })
    }

    /// Rotates `[sequences, positions, k]`.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        self.turn(x, &self.sin)
    }

    /// Rotates by the negative angles: the inverse and the backward function of [`Tables::rotate`].
    fn rotate_back(&self, x: &Tensor) -> Result<Tensor> {
        self.turn(x, &self.sin.neg()?)
    }

    fn turn(&self, x: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let (sequences, positions, k) = x.dims3()?;
        let pairs = x.reshape((sequences, positions, k / 2, 2))?;
        let (even, odd) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?); // [sequences, positions, k/2]
        let turned_even = (even.broadcast_mul(&self.cos)? - odd.broadcast_mul(sin)?)?;
        let turned_odd = (even.broadcast_mul(sin)? + odd.broadcast_mul(&self.cos)?)?;
        Tensor::stack(&[turned_even, turned_odd], 3)?.reshape((sequences, positions, k))
    }
}

/// Layouts are those of [`Layout::in_frames`].
impl Layout {
    /// `[b, f, n, parts, heads, k]` to `[parts, sequences · heads, tokens, k]`.
    fn sequences(&self, x: &Tensor) -> Result<Tensor> {
        let parts = x.dim(3)?;
        let order = match self.axis {
            AttentionAxis::Spatial | AttentionAxis::Joint => [3, 0, 1, 4, 2, 5],
            AttentionAxis::Temporal => [3, 0, 2, 4, 1, 5],
        };
        x.permute(order)?.contiguous()?.reshape((parts, (), self.sequence(), self.head_size))
    }

    /// The inverse of [`Layout::sequences`].
    fn packed(&self, x: &Tensor) -> Result<Tensor> {
        let (parts, heads, [b, f, n], k) = (x.dim(0)?, self.heads.len(), self.dims, self.head_size);
        match self.axis {
            AttentionAxis::Spatial | AttentionAxis::Joint => x.reshape((parts, b, f, heads, n, k))?.permute([1, 2, 4, 0, 3, 5]),
            AttentionAxis::Temporal => x.reshape((parts, b, n, heads, f, k))?.permute([1, 4, 2, 0, 3, 5]),
        }?
        .contiguous() // [b, f, n, parts, heads, k]
    }

    /// Queries, keys (both rotated) and values, each `[sequences · heads, tokens, k]`.
    fn unpack(&self, precision: Precision, rope: Option<&Tables>, qkv: &Tensor) -> Result<[Tensor; 3]> {
        let [b, f, n] = self.dims;
        let qkv = qkv.reshape((b, f, n, 3, self.num_heads, self.head_size))?;
        let parts = self.sequences(&qkv.narrow(4, self.heads.start, self.heads.len())?)?;
        let part = |i: usize, turns: bool| {
            let x = parts.get(i)?;
            precision.operand(&match rope {
                Some(rope) if turns => rope.rotate(&x)?,
                _ => x,
            })
        };
        Ok([part(0, true)?, part(1, true)?, part(2, false)?])
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_size as f64).sqrt()
    }
}

/// Softmax of the scaled scores, `[sequences · heads, tokens, tokens]`.
fn probabilities(q: &Tensor, k: &Tensor, scale: f64) -> Result<Tensor> {
    let scores = (q.matmul(&k.transpose(1, 2)?)? * scale)?;
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

pub(crate) fn forward(precision: Precision, layout: &Layout, rope: Option<&Tables>, qkv: &Tensor) -> Result<Tensor> {
    let [q, k, v] = layout.unpack(precision, rope, qkv)?;
    let weights = precision.operand(&probabilities(&q, &k, layout.scale())?)?;
    let [b, f, n] = layout.dims;
    layout.packed(&weights.matmul(&v)?.unsqueeze(0)?)?.reshape((b, f, n, layout.heads.len() * layout.head_size))
}

/// The gradient of `qkv`; the scores are computed again instead of saved.
pub(crate) fn backward(
    precision: Precision,
    layout: &Layout,
    rope: Option<&Tables>,
    qkv: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let [q, k, v] = layout.unpack(precision, rope, qkv)?;
    let [b, f, n] = layout.dims;
    let gradient = gradient.reshape((b, f, n, 1, layout.heads.len(), layout.head_size))?;
    let gradient = precision.operand(&layout.sequences(&gradient)?.squeeze(0)?)?; // [sequences · heads, tokens, k]
    let p = probabilities(&q, &k, layout.scale())?;
    let dv = precision.operand(&p)?.transpose(1, 2)?.matmul(&gradient)?;
    let dp = gradient.matmul(&v.transpose(1, 2)?)?;
    // Softmax: ds = p·(dp − Σ dp·p).
    let ds = (&p * dp.broadcast_sub(&(&dp * &p)?.sum_keepdim(D::Minus1)?)?)?;
    let ds = precision.operand(&(ds * layout.scale())?)?;
    let (dq, dk) = (ds.matmul(&k)?, ds.transpose(1, 2)?.matmul(&q)?);
    let (dq, dk) = match rope {
        Some(rope) => (rope.rotate_back(&dq)?, rope.rotate_back(&dk)?),
        None => (dq, dk),
    };
    let dqkv = layout.packed(&Tensor::stack(&[dq, dk, dv], 0)?)?; // [b, f, n, 3, heads, k]
    let after = layout.num_heads - layout.heads.end;
    dqkv.pad_with_zeros(4, layout.heads.start, after)?.reshape((b, f, n, 3 * layout.num_heads * layout.head_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rope;
    use crate::finite_difference::pseudo_random;

    #[test]
    fn with_rope_only_distance_counts() -> crate::Result<()> {
        // Queries and keys are equal everywhere, so the score of two frames depends only on their distance.
        let x = pseudo_random(&[1, 4], 7)?.broadcast_as((5, 4))?.contiguous()?;
        let rope = Rope::new(5, 4, &(&x).into())?;
        let rotated = Tables::fetch(rope.tables())?.rotate(&x.unsqueeze(0)?)?.squeeze(0)?;
        let scores = rotated.matmul(&rotated.t()?)?.to_vec2::<f32>()?;
        assert!((scores[0][2] - scores[2][4]).abs() < 1e-5 && (scores[0][1] - scores[3][4]).abs() < 1e-5);
        assert!((scores[0][1] - scores[0][2]).abs() > 1e-3);
        Ok(())
    }
}
