//! The reference formulation: copies into sequences, products and softmax, copies back.

use std::ops::Range;

use candle_core::{D, Result, Tensor};

use crate::Precision;
use crate::{AttentionAxis, Rope};

/// Where sequences and heads lie in the packed tensor.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) axis: AttentionAxis,
    /// `[b, f, n]`.
    pub(crate) dims: [usize; 3],
    pub(crate) num_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) heads: Range<usize>,
}

impl Layout {
    /// How many tokens attend to each other.
    pub(crate) fn sequence(&self) -> usize {
        match self.axis {
            AttentionAxis::Spatial => self.dims[2],
            AttentionAxis::Temporal => self.dims[1],
        }
    }

    /// `[b, f, n, parts, heads, k]` to `[parts, sequences · heads, tokens, k]`.
    fn sequences(&self, x: &Tensor) -> Result<Tensor> {
        let parts = x.dim(3)?;
        let order = match self.axis {
            AttentionAxis::Spatial => [3, 0, 1, 4, 2, 5],
            AttentionAxis::Temporal => [3, 0, 2, 4, 1, 5],
        };
        x.permute(order)?.contiguous()?.reshape((parts, (), self.sequence(), self.head_size))
    }

    /// The inverse of [`Layout::sequences`].
    fn packed(&self, x: &Tensor) -> Result<Tensor> {
        let (parts, heads, [b, f, n], k) = (x.dim(0)?, self.heads.len(), self.dims, self.head_size);
        match self.axis {
            AttentionAxis::Spatial => x.reshape((parts, b, f, heads, n, k))?.permute([1, 2, 4, 0, 3, 5]),
            AttentionAxis::Temporal => x.reshape((parts, b, n, heads, f, k))?.permute([1, 4, 2, 0, 3, 5]),
        }?
        .contiguous() // [b, f, n, parts, heads, k]
    }

    /// Queries, keys (both rotated) and values, each `[sequences · heads, tokens, k]`.
    fn unpack(&self, precision: Precision, rope: Option<&Rope>, qkv: &Tensor) -> Result<[Tensor; 3]> {
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

    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.head_size as f64).sqrt()
    }
}

/// Softmax of the scaled scores, `[sequences · heads, tokens, tokens]`.
fn probabilities(q: &Tensor, k: &Tensor, scale: f64) -> Result<Tensor> {
    let scores = (q.matmul(&k.transpose(1, 2)?)? * scale)?;
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

pub(crate) fn forward(precision: Precision, layout: &Layout, rope: Option<&Rope>, qkv: &Tensor) -> Result<Tensor> {
    let [q, k, v] = layout.unpack(precision, rope, qkv)?;
    let weights = precision.operand(&probabilities(&q, &k, layout.scale())?)?;
    let [b, f, n] = layout.dims;
    layout.packed(&weights.matmul(&v)?.unsqueeze(0)?)?.reshape((b, f, n, layout.heads.len() * layout.head_size))
}

/// The gradient of `qkv`; scores are computed again rather than kept.
pub(crate) fn backward(
    precision: Precision,
    layout: &Layout,
    rope: Option<&Rope>,
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
