//! Attention of one wide head, as autoencoders have it between all places of a frame. **Inference only.**

use candle_core::Tensor;
use rayon::prelude::*;

use crate::AttentionAxis;
use crate::backend::cpu::buffer::Unwritten;
use crate::backend::cpu::gemm::{Kernel, Matrix, Packed, Scratch, multiply_block};
use crate::backend::cpu::slices::{Values, is_cpu_f32};
use crate::backend::cpu::vectorised::{exp, sum, vectorised};
use crate::backend::reference::attention::{self as reference, Layout};
use crate::{Error, Precision, Result};

/// Queries of one task. Their scores exist at once, those of all queries never do.
const QUERIES: usize = 96;

/// `softmax(q·kᵀ/√d)·v` with one head of size `d`, on all threads. Keys and values are packed once for all queries, unlike in
/// [`crate::attention`], whose tasks are whole heads.
///
/// # Shapes
///
/// `qkv` `[n, …, 3·d]`, ordered query, key, value, of `n` sequences; gives `[n, …, d]`.
///
/// # Errors
///
/// If the shape does not fit, or `qkv` is not f32.
pub fn single_head_attention(qkv: &Tensor, precision: Precision) -> Result<Tensor> {
    let (n, d) = match qkv.dims() {
        &[n, .., width] if qkv.rank() > 2 && width > 0 && width.is_multiple_of(3) && qkv.elem_count() > 0 => (n, width / 3),
        other => return Err(Error::shape("single_head_attention", "qkv [n, …, 3·d], not empty", other)),
    };
    let tokens = qkv.elem_count() / n / (3 * d);
    if !is_cpu_f32(qkv) {
        let layout = Layout { axis: AttentionAxis::Spatial, dims: [n, 1, tokens], num_heads: 1, head_size: d, heads: 0..1 };
        let y = reference::forward(precision, &layout, None, &qkv.reshape((n, 1, tokens, 3 * d))?)?;
        return Ok(y.reshape([&qkv.dims()[..qkv.rank() - 1], &[d]].concat())?);
    }
    let qkv = qkv.contiguous()?;
    let values = Values::of(&qkv)?;
    let mut out = Unwritten::new(n * tokens * d);
    // SAFETY: the products below write before anything is read.
    let results = unsafe { out.values_mut() };
    for (result, sequence) in results.chunks_exact_mut(tokens * d).zip(values.chunks_exact(tokens * 3 * d)) {
        let part = |part: usize| Matrix::rows(&sequence[part * d..], 3 * d);
        let keys = Packed::new(Kernel::of(precision), part(1).transposed(), d, tokens);
        let values = Packed::new(Kernel::of(precision), part(2), tokens, d);
        result.par_chunks_mut(QUERIES * d).enumerate().for_each_init(
            || (vec![0f32; QUERIES * tokens], Scratch::default()),
            |(scores, scratch), (block, result)| {
                let rows = result.len() / d;
                let scores = &mut scores[..rows * tokens];
                // SAFETY: `scores` has `rows` rows of `tokens` values.
                unsafe {
                    let queries = part(0).rows_from(block * QUERIES);
                    multiply_block(scores.as_mut_ptr(), tokens, rows, queries, &keys, false, scratch);
                }
                softmax_rows(scores, tokens, 1.0 / (d as f32).sqrt());
                // SAFETY: `result` has `rows` rows of `d` values.
                unsafe {
                    multiply_block(result.as_mut_ptr(), d, rows, Matrix::rows(scores, tokens), &values, false, scratch);
                }
            },
        );
    }
    // SAFETY: the blocks cover all rows of all sequences, and each was written.
    let out = unsafe { out.written() };
    let mut shape = qkv.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = d;
    }
    Ok(Tensor::from_vec(out, shape, qkv.device())?)
}

vectorised! {
    /// Softmax of each row of `len` values times `scale`.
    fn softmax_rows(scores: &mut [f32], len: usize, scale: f32) {
        for row in scores.chunks_exact_mut(len) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
            for score in row.iter_mut() {
                *score = exp::<FUSED>((*score - largest) * scale);
            }
            let factor = 1.0 / sum(len, |i| row[i]);
            for score in row.iter_mut() {
                *score *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, pseudo_random};
    use crate::{Attention, AttentionAxis, Tape, attention};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn agrees_with_attention_of_one_head(
            (n, tokens, d) in (1usize..3, 1usize..220, 1usize..40), bf16 in any::<bool>(), seed in any::<u64>(),
        ) {
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            let run = || -> Result<()> {
                let qkv = (pseudo_random(&[n, 1, tokens, 3 * d], seed)? * 3.0)?;
                let kind = Attention { axis: AttentionAxis::Spatial, num_heads: 1, heads: 0..1, rope: None };
                let tape = Tape::inference();
                let plain = attention(&tape, &tape.constant(qkv.clone()), &kind)?;
                assert_close(&single_head_attention(&qkv, precision)?, plain.tensor(), if bf16 { 5e-2 } else { 1e-5 })
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn one_token_is_its_own_value_and_misfits_are_refused() -> Result<()> {
        let qkv = pseudo_random(&[1, 1, 6], 1)?;
        let y = single_head_attention(&qkv, Precision::F32)?;
        assert_close(&y, &qkv.narrow(2, 4, 2)?, 1e-6)?;
        assert!(single_head_attention(&pseudo_random(&[1, 1, 7], 1)?, Precision::F32).is_err());
        assert!(single_head_attention(&qkv.narrow(0, 0, 0)?, Precision::F32).is_err());
        assert!(single_head_attention(&qkv.squeeze(0)?, Precision::F32).is_err());
        Ok(())
    }
}
