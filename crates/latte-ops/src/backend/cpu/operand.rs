//! Results that only matmuls read.
//!
//! If matmuls round their operands to bfloat16, an inference tape keeps such results in the rounded form: half the memory to write
//! and read, no later conversion, and the same bits in the end. A recording tape keeps f32, because gradients are computed from the
//! values, not from the rounded operands.

use candle_core::{CpuStorage, DType, Storage, Tensor};

use super::gemm::{Kernel, Matrix, Operand, Pairs};
use super::slices::Values;
use crate::tape::Context;
use crate::{Precision, Result};

impl Context<'_> {
    /// Whether results that only matmuls read are kept as words of pairs.
    pub(super) fn keeps_pairs(self) -> bool {
        !self.recording && Kernel::of(self.precision).pairs()
    }
}

/// `x` in a form that matmuls of `precision` can read in place, in rows whose parts of `even` values begin at whole words:
/// contiguous, and f32 unless it holds words of pairs.
pub(crate) fn readable(precision: Precision, x: &Tensor, even: usize) -> Result<Tensor> {
    let x = x.contiguous()?;
    let pairs = Kernel::of(precision).pairs() && even.is_multiple_of(2) && words(&x, |words| words.is_some());
    Ok(if x.dtype() == DType::F32 || pairs { x } else { x.to_dtype(DType::F32)? })
}

/// Calls `f` with the words of a contiguous bfloat16 tensor on the CPU; with `None` for another tensor, or if it is not made of
/// whole words.
fn words<R>(x: &Tensor, f: impl FnOnce(Option<&[u32]>) -> R) -> R {
    let (storage, layout) = x.storage_and_layout();
    f(of_storage(&storage, layout.start_offset(), x.elem_count()))
}

fn of_storage(storage: &Storage, start: usize, len: usize) -> Option<&[u32]> {
    let Storage::Cpu(CpuStorage::BF16(values)) = storage else { return None };
    // SAFETY: any two bfloat16 values are a valid word.
    let (before, words, behind) = unsafe { values[start..start + len].align_to::<u32>() };
    (before.is_empty() && behind.is_empty()).then_some(words)
}

/// Read access to an operand that [`readable`] returned.
pub(crate) enum Operands<'t> {
    /// f32.
    Values(Values<'t>),
    /// Words of pairs of bfloat16.
    Pairs(Box<dyn std::ops::Deref<Target = Storage> + 't>, usize, usize),
}

impl<'t> Operands<'t> {
    /// Locks the tensor's storage.
    pub(crate) fn of(tensor: &'t Tensor) -> Result<Self> {
        if tensor.dtype() == DType::F32 {
            return Ok(Self::Values(Values::of(tensor)?));
        }
        let (storage, layout) = tensor.storage_and_layout();
        Ok(Self::Pairs(Box::new(storage), layout.start_offset(), tensor.elem_count()))
    }

    /// The operand without the lock: threads can share slices, but not the lock.
    pub(crate) fn slice(&self) -> Slice<'_> {
        match self {
            Self::Values(values) => Slice::Values(values),
            Self::Pairs(storage, start, len) => Slice::Pairs(of_storage(storage, *start, *len).unwrap_or_default()),
        }
    }
}

/// The values of an operand, or its words.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slice<'s> {
    Values(&'s [f32]),
    Pairs(&'s [u32]),
}

impl<'s> Slice<'s> {
    /// Rows from value `offset` on, with a distance of `stride` values.
    pub(crate) fn rows(self, offset: usize, stride: usize) -> Operand<'s> {
        match self {
            Self::Values(values) => Matrix::rows(&values[offset..], stride).into(),
            Self::Pairs(words) => Pairs { words: &words[offset / 2..], stride: stride / 2 }.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::pseudo_random;
    use crate::{
        Attention, AttentionAxis, InstructionSet, Rope, Tape, attention, cross_attention, linear, linear_gated, linear_gelu,
        linear_low_precision, modulated_layer_norm,
    };

    /// A block of operations that write and read operands, on `tape`; returns the output and whether operands were kept as pairs.
    fn block(
        tape: &Tape<'_>,
        [f, n, heads, head_size]: [usize; 4],
        axis: AttentionAxis,
        rotates: bool,
    ) -> Result<(Tensor, bool)> {
        let d = heads * head_size;
        let random = |dims: &[usize], seed| Ok::<_, crate::Error>(tape.constant(pseudo_random(dims, seed)?));
        let x = tape.input(pseudo_random(&[1, f, n, d], 1)?);
        let (shift, scale, gate) = (random(&[1, d], 2)?, random(&[1, d], 3)?, random(&[1, d], 4)?);
        let rope = Rope::new(if axis == AttentionAxis::Spatial { n } else { f }, head_size & !1, x.value())?;
        let rope = (rotates && head_size.is_multiple_of(2)).then_some(&rope);
        let kind = Attention { axis, num_heads: heads, heads: 0..heads, rope };
        let y = modulated_layer_norm(tape, &x, &shift, &scale, 1e-6)?;
        let (weight, bias) = (random(&[3 * d, d], 5)?, random(&[3 * d], 6)?);
        let layer = if rope.is_some() { linear } else { linear_low_precision };
        let y = attention(tape, &layer(tape, &y, &weight, Some(&bias))?, &kind)?;
        let x = linear_gated(tape, &y, &random(&[d, d], 7)?, None, &x, &gate)?;
        let q = linear_low_precision(tape, &x, &random(&[d, d], 8)?, None)?;
        let kv = linear_low_precision(tape, &tape.constant(pseudo_random(&[1, 5, d], 9)?), &random(&[2 * d, d], 10)?, None)?;
        let bias = random(&[1, 5], 11)?;
        let y = cross_attention(tape, &q, &kv, heads, Some(&bias))?;
        let kept = y.to_host()?.dtype() == DType::BF16;
        let x = linear_gated(tape, &y, &random(&[d, d], 12)?, None, &x, &gate)?;
        let y = linear_gelu(tape, &x, &random(&[2 * d, d], 13)?, Some(&random(&[2 * d], 14)?))?;
        Ok((linear(tape, &y, &random(&[d, 2 * d], 15)?, None)?.to_host()?, kept))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn operands_that_are_kept_rounded_give_the_same_bits(
            (f, n, heads, head_size) in (1usize..4, 1usize..70, 1usize..4, 1usize..20),
            (temporal, rotates, bf16) in (any::<bool>(), any::<bool>(), any::<bool>()),
        ) {
            let axis = if temporal { AttentionAxis::Temporal } else { AttentionAxis::Spatial };
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            let run = |set| -> Result<()> {
                let run = |tape: Tape<'_>| block(&tape.with_precision(precision), [f, n, heads, head_size], axis, rotates);
                let (plain, never) = run(Tape::recording())?;
                let (ours, kept) = run(Tape::inference())?;
                let bits = |x: &Tensor| Ok::<_, crate::Error>(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                assert_eq!(bits(&plain)?, bits(&ours)?);
                assert_eq!((never, kept), (false, bf16 && set == InstructionSet::Avx512Bf16));
                Ok(())
            };
            for (set, result) in with_each(|set| (set, run(set))) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
