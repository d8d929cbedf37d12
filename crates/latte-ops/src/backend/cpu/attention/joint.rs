//! Attention among all tokens of a clip or all pixels of an image, for inference: sequences are few and long, so keys and values
//! are packed once for all queries, and the queries are spread over all threads.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::gemm::{Kernel, Matrix, Packed, Scratch, multiply_block};
use crate::backend::cpu::slices::Values;
use crate::backend::cpu::vectorised::{exp, sum, vectorised};
use crate::ops::attention::Layout;
use crate::{Precision, Result};

/// Queries of one task. Only their scores are in memory at once, never those of all queries.
const QUERIES: usize = 96;

pub(super) fn forward(precision: Precision, layout: &Layout, qkv: &Tensor) -> Result<Tensor> {
    let qkv = qkv.to_dtype(DType::F32)?.contiguous()?;
    let values = Values::of(&qkv)?;
    let (tokens, size, kernel) = (layout.sequence(), layout.head_size, Kernel::of(precision));
    let (width, out_width) = (3 * layout.num_heads * size, layout.heads.len() * size);
    let mut out = Unwritten::<f32>::new(qkv.elem_count() / width * out_width);
    let first = out.as_mut_ptr();
    for (index, sequence) in values.chunks_exact((tokens * width).max(1)).enumerate() {
        for (column, head) in layout.heads.clone().enumerate() {
            let part = |part: usize| Matrix::rows(&sequence[(part * layout.num_heads + head) * size..], width);
            let keys = Packed::new(kernel, part(1).transposed(), size, tokens);
            let values = Packed::new(kernel, part(2), tokens, size);
            // SAFETY: the first row of this head of this sequence lies inside the result.
            let result = Shared::new(unsafe { first.add(index * tokens * out_width + column * size) });
            (0..tokens.div_ceil(QUERIES)).into_par_iter().for_each_init(
                || (vec![0f32; QUERIES * tokens], Scratch::default()),
                |(scores, scratch), block| {
                    let start = block * QUERIES;
                    let rows = QUERIES.min(tokens - start);
                    let scores = &mut scores[..rows * tokens];
                    // SAFETY: `scores` has `rows` rows of `tokens` values.
                    unsafe {
                        multiply_block(scores.as_mut_ptr(), tokens, rows, part(0).rows_from(start), &keys, false, scratch);
                    }
                    softmax_rows(scores, tokens, 1.0 / (size as f32).sqrt());
                    // SAFETY: these rows of this head lie inside the result, and no other task writes them.
                    unsafe {
                        let result = result.get().add(start * out_width);
                        multiply_block(result, out_width, rows, Matrix::rows(scores, tokens), &values, false, scratch);
                    }
                },
            );
        }
    }
    // SAFETY: the blocks cover all rows of all heads of all sequences, and each was written.
    let out = unsafe { out.written() };
    Ok(Tensor::from_vec(out, &layout.output(), qkv.device())?)
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

    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, pseudo_random};
    use crate::{Attention, AttentionAxis, Precision, Result, Tape, Var, attention};

    fn run(tape: &Tape<'_>, qkv: &candle_core::Tensor, axis: AttentionAxis, num_heads: usize) -> Result<Var> {
        let kind = Attention { axis, num_heads, heads: num_heads / 2..num_heads, rope: None };
        attention(tape, &tape.constant(qkv), &kind)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn agrees_with_attention_within_one_frame(
            (n, f, tokens, d) in (1usize..3, 1usize..3, 1usize..150, 1usize..40),
            (num_heads, bf16) in (1usize..4, any::<bool>()), seed in any::<u64>(),
        ) {
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            let compare = || -> Result<()> {
                let qkv = (pseudo_random(&[n, f, tokens, 3 * num_heads * d], seed)? * 3.0)?;
                let tape = Tape::inference();
                let one_frame = qkv.reshape((n, 1, f * tokens, 3 * num_heads * d))?;
                let plain = run(&tape, &one_frame, AttentionAxis::Spatial, num_heads)?.to_host()?;
                let tape = Tape::inference().with_precision(precision);
                let ours = run(&tape, &qkv, AttentionAxis::Joint, num_heads)?.to_host()?;
                assert_close(&ours, &plain.reshape(ours.dims())?, if bf16 { 5e-2 } else { 1e-5 })
            };
            for (set, result) in with_each(|set| (set, compare())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn one_token_is_its_own_value_and_misfits_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let qkv = pseudo_random(&[1, 1, 1, 6], 1)?;
        let y = run(&tape, &qkv, AttentionAxis::Joint, 1)?.to_host()?;
        assert_close(&y, &qkv.narrow(3, 4, 2)?, 1e-6)?;
        assert!(run(&tape, &pseudo_random(&[1, 1, 1, 7], 1)?, AttentionAxis::Joint, 1).is_err());
        assert!(run(&tape, &qkv.squeeze(0)?, AttentionAxis::Joint, 1).is_err());
        Ok(())
    }
}
