//! Multi-head self-attention over packed queries, keys and values, within frames or across them.

use std::ops::Range;

use candle_core::Tensor;

use crate::backend::cpu::operand::{is_cpu_operand, keeps_pairs};
use crate::backend::cpu::slices::is_cpu_f32;
use crate::backend::{cpu::attention as cpu, reference::attention as reference};
use crate::{Error, Precision, Result, Rope, Tape, Var};

/// Along which axis tokens attend to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionAxis {
    /// Tokens of the same frame: `b·f` sequences of `n`.
    Spatial,
    /// Tokens of the same place: `b·n` sequences of `f`.
    Temporal,
}

/// What kind of attention.
#[derive(Debug, Clone)]
pub struct Attention<'r> {
    /// Along which axis.
    pub axis: AttentionAxis,
    /// How many heads the packed tensor holds.
    pub num_heads: usize,
    /// Which of them take part; all others are ignored.
    pub heads: Range<usize>,
    /// Rotary positions along the axis.
    pub rope: Option<&'r Rope>,
}

/// `softmax(q·kᵀ/√k)·v` for each head and sequence, without a mask, for products to read (see [`crate::linear_low_precision`]).
///
/// The axis is an argument so that the caller need not permute tokens: everything else in a block works on single tokens.
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
    if !heads_fit || !width.is_multiple_of(3 * kind.num_heads) {
        let expected = format!("qkv of width 3·{}·k and heads among them", kind.num_heads);
        return Err(Error::shape("attention", expected, (qkv.dims(), &kind.heads)));
    }
    let layout = reference::Layout {
        axis: kind.axis,
        dims: [b, f, n],
        num_heads: kind.num_heads,
        head_size: width / 3 / kind.num_heads,
        heads: kind.heads.clone(),
    };
    if let Some(rope) = kind.rope {
        rope.check(layout.sequence(), layout.head_size)?;
    }
    let rope = kind.rope.cloned();
    let precision = tape.precision();
    let value = if is_cpu_operand(tape, qkv) {
        cpu::forward(precision, &layout, rope.as_ref(), qkv.tensor(), keeps_pairs(tape))?
    } else {
        reference::forward(precision, &layout, rope.as_ref(), qkv.tensor())?
    };
    let (qkv_value, qkv) = (qkv.tensor().clone(), qkv.target());
    Ok(tape.record(value, std::slice::from_ref(&qkv.clone()), move |gradient, gradients| {
        gradients.give(&qkv, backward(precision, &layout, rope.as_ref(), &qkv_value, &gradient)?)
    }))
}

fn backward(
    precision: Precision,
    layout: &reference::Layout,
    rope: Option<&Rope>,
    qkv: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    if is_cpu_f32(qkv) {
        cpu::backward(precision, layout, rope, &qkv.contiguous()?, gradient)
    } else {
        Ok(reference::backward(precision, layout, rope, qkv, gradient)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp};
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, check, pseudo_random};

    fn kind(axis: AttentionAxis, heads: Range<usize>, rope: Option<&Rope>) -> Attention<'_> {
        Attention { axis, num_heads: 2, heads, rope }
    }

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let qkv = [pseudo_random(&[2, 3, 2, 24], 1)?];
        let (spatial, temporal) = (Rope::new(2, 4, &Device::Cpu)?, Rope::new(3, 4, &Device::Cpu)?);
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Spatial, 0..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 0..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 1..2, None)))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Spatial, 0..1, Some(&spatial))))?;
        check(&qkv, |tape, v| attention(tape, &v[0], &kind(AttentionAxis::Temporal, 0..2, Some(&temporal))))
    }

    #[test]
    fn one_head_of_one_sequence_is_the_formula() -> Result<()> {
        let qkv = pseudo_random(&[1, 1, 3, 12], 5)?; // k = 4
        let tape = Tape::inference();
        let one = Attention { axis: AttentionAxis::Spatial, num_heads: 1, heads: 0..1, rope: None };
        let ours = attention(&tape, &tape.constant(qkv.clone()), &one)?.tensor().i((0, 0))?.to_vec2::<f32>()?;
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            (b, f, n) in (1usize..3, 1usize..7, 1usize..40),
            (num_heads, half_size) in (1usize..4, 1usize..13),
            (temporal, rotates, bf16) in (any::<bool>(), any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            let axis = if temporal { AttentionAxis::Temporal } else { AttentionAxis::Spatial };
            let first = seed as usize % num_heads;
            let layout =
                reference::Layout { axis, dims: [b, f, n], num_heads, head_size: 2 * half_size, heads: first..num_heads };
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            // bfloat16 holds 8 bits: where a sum falls on the other side of a tie, a weight moves by 1/256.
            let tolerance = if bf16 { 8e-3 } else { 2e-5 };
            let run = || -> Result<()> {
                let rope = Rope::new(layout.sequence(), layout.head_size, &Device::Cpu)?;
                let rope = rotates.then_some(&rope);
                let qkv = (pseudo_random(&[b, f, n, 6 * num_heads * half_size], seed)? * 2.0)?;
                let gradient = pseudo_random(&[b, f, n, 2 * layout.heads.len() * half_size], seed ^ 1)?;
                let (ours, plain) = (cpu::forward(precision, &layout, rope, &qkv, false)?, reference::forward(precision, &layout, rope, &qkv)?);
                assert_close(&ours, &plain, tolerance)?;
                let plain = reference::backward(precision, &layout, rope, &qkv, &gradient)?;
                assert_close(&cpu::backward(precision, &layout, rope, &qkv, &gradient)?, &plain, tolerance)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn each_axis_mixes_its_own_tokens_only() -> Result<()> {
        let tape = Tape::inference();
        let qkv = pseudo_random(&[1, 3, 2, 24], 6)?;
        // Change frame 0 alone.
        let mask = Tensor::new(&[1f32, 0., 0.], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
        let changed = qkv.broadcast_add(&mask)?;
        for (axis, mixes) in [(AttentionAxis::Spatial, false), (AttentionAxis::Temporal, true)] {
            let run = |x: &Tensor| attention(&tape, &tape.constant(x.clone()), &kind(axis, 0..2, None));
            let difference = (run(&qkv)?.tensor() - run(&changed)?.tensor())?.i((0, 1..))?.abs()?.max_all()?;
            assert_eq!(difference.to_scalar::<f32>()? > 1e-6, mixes, "{axis:?}");
        }
        Ok(())
    }

    #[test]
    fn with_rope_only_distance_counts() -> Result<()> {
        // Equal queries and keys everywhere: the score of two frames depends on their distance alone.
        let rope = Rope::new(5, 4, &Device::Cpu)?;
        let x = pseudo_random(&[1, 4], 7)?.broadcast_as((5, 4))?.contiguous()?;
        let rotated = rope.rotate(&x.unsqueeze(0)?)?.squeeze(0)?;
        let scores = rotated.matmul(&rotated.t()?)?.to_vec2::<f32>()?;
        assert!((scores[0][2] - scores[2][4]).abs() < 1e-5 && (scores[0][1] - scores[3][4]).abs() < 1e-5);
        assert!((scores[0][1] - scores[0][2]).abs() > 1e-3);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let qkv = tape.constant(pseudo_random(&[1, 3, 2, 24], 1)?);
        let short = Rope::new(2, 4, &Device::Cpu)?;
        assert!(attention(&tape, &qkv, &kind(AttentionAxis::Spatial, 1..3, None)).is_err());
        assert!(attention(&tape, &qkv, &kind(AttentionAxis::Temporal, 0..2, Some(&short))).is_err());
        assert!(attention(&tape, &qkv, &Attention { num_heads: 5, ..kind(AttentionAxis::Spatial, 0..2, None) }).is_err());
        Ok(())
    }
}
