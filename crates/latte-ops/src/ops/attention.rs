//! Multi-head self-attention over packed queries, keys and values: within frames, across frames, or over the whole clip.

use std::ops::Range;

use super::rope::Rope;
use crate::tape::Context;
use crate::{Error, Result, Tape, Value, Var, backend};

/// The axis along which tokens attend to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionAxis {
    /// Tokens of the same frame: `b·f` sequences of `n` tokens.
    Spatial,
    /// Tokens of the same position in all frames: `b·n` sequences of `f` tokens.
    Temporal,
    /// All tokens of a clip: `b` sequences of `f·n` tokens. For images `[b, h, w, …]`, all pixels of an image.
    Joint,
}

/// The options of an attention.
#[derive(Debug, Clone)]
pub struct Attention<'r> {
    /// The axis along which tokens attend.
    pub axis: AttentionAxis,
    /// The number of heads in the packed tensor.
    pub num_heads: usize,
    /// The heads that take part; the others are ignored.
    pub heads: Range<usize>,
    /// Rotary position embedding along the axis.
    pub rope: Option<&'r Rope>,
}

/// `softmax(q·kᵀ/√k)·v` for each head and sequence, without a mask. Only matmuls may read the result (see
/// [`crate::linear_low_precision`]).
///
/// The axis is an argument so that the caller need not permute tokens: the other operations of a block work on single tokens.
///
/// # Shapes
///
/// `qkv` `[b, f, n, 3·num_heads·k]`, ordered query, key, value, each `[num_heads, k]`; gives `[b, f, n, heads·k]`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn attention(tape: &Tape<'_>, qkv: &Var, kind: &Attention<'_>) -> Result<Var> {
    let [b, f, n, width] = *qkv.dims() else { return Err(Error::shape("attention", "qkv [b, f, n, 3·d]", qkv.dims())) };
    let heads_fit = kind.heads.start < kind.heads.end && kind.heads.end <= kind.num_heads;
    if !heads_fit || width == 0 || !width.is_multiple_of(3 * kind.num_heads) {
        let expected = format!("qkv of width 3·{}·k and heads among them", kind.num_heads);
        return Err(Error::shape("attention", expected, (qkv.dims(), &kind.heads)));
    }
    let layout = Layout {
        axis: kind.axis,
        dims: [b, f, n],
        num_heads: kind.num_heads,
        head_size: width / 3 / kind.num_heads,
        heads: kind.heads.clone(),
    };
    if let Some(rope) = kind.rope {
        rope.check(layout.sequence(), layout.head_size)?;
    }
    let rope = kind.rope.map(Rope::tables);
    let backend = backend::of(std::iter::once(qkv.value()).chain(rope.into_iter().flatten()));
    let call = SelfAttention { context: tape.context(), layout: &layout, rope, qkv: qkv.value() };
    tape.record("attention", &[qkv], backend.attention(&call)?)
}

/// The arguments of a self-attention, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelfAttention<'c> {
    pub(crate) context: Context<'c>,
    pub(crate) layout: &'c Layout,
    /// Cosines and sines.
    pub(crate) rope: Option<[&'c Value; 2]>,
    pub(crate) qkv: &'c Value,
}

/// The positions of sequences and heads in the packed tensor.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) axis: AttentionAxis,
    /// `[b, f, n]`.
    pub(crate) dims: [usize; 3],
    pub(crate) num_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) heads: Range<usize>,
}

impl Layout {
    /// The length of a sequence.
    pub(crate) fn sequence(&self) -> usize {
        let [_, f, n] = self.dims;
        match self.axis {
            AttentionAxis::Spatial => n,
            AttentionAxis::Temporal => f,
            AttentionAxis::Joint => f * n,
        }
    }

    /// The same layout with all tokens of a clip in one frame for joint attention: the offsets in memory do not change.
    pub(crate) fn in_frames(&self) -> Self {
        let [b, f, n] = self.dims;
        match self.axis {
            AttentionAxis::Joint => Self { axis: AttentionAxis::Spatial, dims: [b, 1, f * n], ..self.clone() },
            AttentionAxis::Spatial | AttentionAxis::Temporal => self.clone(),
        }
    }

    /// The lengths of the axes of the result.
    pub(crate) fn output(&self) -> [usize; 4] {
        let [b, f, n] = self.dims;
        [b, f, n, self.heads.len() * self.head_size]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp, Tensor};

    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    fn kind(axis: AttentionAxis, heads: Range<usize>, rope: Option<&Rope>) -> Attention<'_> {
        Attention { axis, num_heads: 2, heads, rope }
    }

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let qkv = [pseudo_random(&[2, 3, 2, 24], 1)?];
        let (spatial, temporal) = (Rope::new(2, 4, &(&qkv[0]).into())?, Rope::new(3, 4, &(&qkv[0]).into())?);
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Spatial, 0..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 0..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 1..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Joint, 0..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Spatial, 0..1, Some(&spatial))))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 0..2, Some(&temporal))))
    }

    #[test]
    fn one_head_of_one_sequence_is_the_formula() -> Result<()> {
        let qkv = pseudo_random(&[1, 1, 3, 12], 5)?; // k = 4
        let tape = Tape::inference();
        let one = Attention { axis: AttentionAxis::Spatial, num_heads: 1, heads: 0..1, rope: None };
        let ours = attention(&tape, &tape.constant(qkv.clone()), &one)?.to_host()?.i((0, 0))?.to_vec2::<f32>()?;
        let rows = qkv.i((0, 0))?.to_vec2::<f32>()?;
        for i in 0..3 {
            let score = |j: usize| (0..4).map(|c| rows[i][c] * rows[j][4 + c]).sum::<f32>() / 2.0;
            let weights: Vec<f32> = (0..3).map(|j| score(j).exp()).collect();
            let total: f32 = weights.iter().sum();
            for c in 0..4 {
                let expected: f32 = (0..3).map(|j| weights[j] / total * rows[j][8 + c]).sum();
                assert!((ours[i][c] - expected).abs() < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn each_axis_mixes_its_own_tokens_only() -> Result<()> {
        let tape = Tape::inference();
        let qkv = pseudo_random(&[1, 3, 2, 24], 6)?;
        // Changes frame 0 only.
        let mask = Tensor::new(&[1f32, 0., 0.], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
        let changed = qkv.broadcast_add(&mask)?;
        for (axis, mixes) in [(AttentionAxis::Spatial, false), (AttentionAxis::Temporal, true)] {
            let run = |x: &Tensor| attention(&tape, &tape.constant(x.clone()), &kind(axis, 0..2, None));
            let difference = (run(&qkv)?.to_host()? - run(&changed)?.to_host()?)?.i((0, 1..))?.abs()?.max_all()?;
            assert_eq!(difference.to_scalar::<f32>()? > 1e-6, mixes, "{axis:?}");
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let qkv = tape.constant(pseudo_random(&[1, 3, 2, 24], 1)?);
        let short = Rope::new(2, 4, qkv.value())?;
        assert!(attention(&tape, &qkv, &kind(AttentionAxis::Spatial, 1..3, None)).is_err());
        assert!(attention(&tape, &qkv, &kind(AttentionAxis::Temporal, 0..2, Some(&short))).is_err());
        assert!(attention(&tape, &qkv, &Attention { num_heads: 5, ..kind(AttentionAxis::Spatial, 0..2, None) }).is_err());
        Ok(())
    }
}
