//! Cross-attention on the CPU.

use candle_core::Tensor;
use rayon::prelude::*;

use super::head::{self, Head, Rows, RowsMut, Workspace};
use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::gemm::{Kernel, Matrix};
use crate::backend::cpu::operand::{Operands, readable};
use crate::backend::cpu::slices::Values;
use crate::backend::reference::cross_attention::finite_bias;
use crate::ops::cross_attention::{CrossAttention, Layout};
use crate::tape::{Computed, Gradient};
use crate::{Precision, Result};

pub(crate) fn cross_attention(call: &CrossAttention<'_>) -> Result<Computed<'static>> {
    let (precision, layout, bias) = (call.context.precision, call.layout, finite_bias(call)?);
    let (q, kv) = (call.q.fetch()?, call.kv.fetch()?);
    let y = forward(precision, &layout, &q, &kv, bias.as_ref(), call.context.keeps_pairs())?;
    Ok(Computed::new(y, move |gradient, _| {
        let found = backward(precision, &layout, &q, &kv, bias.as_ref(), &gradient.value.fetch()?)?;
        Ok(found.map(|tensor| Some(Gradient::owned(tensor))).into())
    }))
}

impl Layout {
    /// One head of `count` queries of a clip from query `first` on, with their keys. `q` and `kv` make an operand from an offset
    /// and a row stride.
    fn head<'s, O>(
        &self,
        [q, kv]: [&dyn Fn(usize, usize) -> O; 2],
        bias: Option<&'s [f32]>,
        clip: usize,
        head: usize,
        first: usize,
        count: usize,
    ) -> Head<'s, O> {
        let d = self.d();
        let part = |part: usize| kv(clip * self.keys * 2 * d + (part * self.num_heads + head) * self.head_size, 2 * d);
        Head {
            size: self.head_size,
            queries: count,
            keys: self.keys,
            q: q(self.offset(clip, head, first), d),
            k: part(0),
            v: part(1),
            rope: None,
            bias: bias.map(|bias| &bias[clip * self.keys..][..self.keys]),
        }
    }

    /// The offset of a head of a query.
    fn offset(&self, clip: usize, head: usize, query: usize) -> usize {
        (clip * self.queries + query) * self.d() + head * self.head_size
    }
}

/// The output; with `to_pairs`, which needs a kernel of pairs, rounded to bfloat16.
fn forward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    to_pairs: bool,
) -> Result<Tensor> {
    let (q, kv) = (readable(precision, q, layout.head_size)?, readable(precision, kv, layout.head_size)?);
    let (q_values, kv_values, bias) = (Operands::of(&q)?, Operands::of(&kv)?, bias.map(Values::of).transpose()?);
    let ([q_rows, kv_rows], bias) = ([q_values.slice(), kv_values.slice()], bias.as_deref());
    // All queries share their keys, so a head can be cut into as many tasks as there are threads.
    let heads = layout.b * layout.num_heads;
    let wanted = (4 * rayon::current_num_threads()).div_ceil(heads.max(1));
    let piece = layout.queries.div_ceil(wanted).max(96);
    let pieces = layout.queries.div_ceil(piece);
    let write = |rows: &(dyn Fn(usize, usize) -> Rows + Sync)| {
        (0..heads * pieces).into_par_iter().with_max_len(1).for_each(|task| {
            Workspace::with(Kernel::of(precision), |workspace| {
                let (clip, head) = (task / pieces / layout.num_heads, task / pieces % layout.num_heads);
                let first = task % pieces * piece;
                let count = piece.min(layout.queries - first);
                let operands: [&dyn Fn(usize, usize) -> _; 2] =
                    [&|offset, stride| q_rows.rows(offset, stride), &|offset, stride| kv_rows.rows(offset, stride)];
                let out = rows(layout.offset(clip, head, first), layout.d());
                // SAFETY: these queries of this head lie inside the result, and no other task writes them.
                unsafe { layout.head(operands, bias, clip, head, first, count).forward(workspace, out) };
            });
        });
        Ok(())
    };
    // SAFETY: the tasks are all queries of all heads, which make up the result.
    unsafe { head::result(q.dims(), to_pairs, write) }
}

/// The gradients of `q` and `kv`.
fn backward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    let (q, kv, gradient) = (q.contiguous()?, kv.contiguous()?, gradient.contiguous()?);
    let (q_values, kv_values, gradient) = (Values::of(&q)?, Values::of(&kv)?, Values::of(&gradient)?);
    let bias = bias.map(Values::of).transpose()?;
    let (gradient, bias): (&[f32], Option<&[f32]>) = (&gradient, bias.as_deref());
    let (q_slice, kv_slice): (&[f32], &[f32]) = (&q_values, &kv_values);
    let (mut dq, mut dkv) = (Unwritten::<f32>::new(q.elem_count()), Unwritten::<f32>::new(kv.elem_count()));
    let (q_result, kv_result) = (Shared::new(dq.as_mut_ptr()), Shared::new(dkv.as_mut_ptr()));
    let (d, size) = (layout.d(), layout.head_size);
    (0..layout.b * layout.num_heads).into_par_iter().with_max_len(1).for_each(|task| {
        Workspace::with(Kernel::of(precision), |workspace| {
            let (clip, head) = (task / layout.num_heads, task % layout.num_heads);
            let gradient = Matrix::rows(&gradient[layout.offset(clip, head, 0)..], d);
            let operands: [&dyn Fn(usize, usize) -> _; 2] =
                [&|offset: usize, stride| Matrix::rows(&q_slice[offset..], stride), &|offset: usize, stride| {
                    Matrix::rows(&kv_slice[offset..], stride)
                }];
            // SAFETY: one head of one clip lies inside the results, and no other task writes it.
            unsafe {
                let dq = RowsMut { first: Shared::new(q_result.get().add(layout.offset(clip, head, 0))), stride: d };
                let part = |part: usize| {
                    let offset = clip * layout.keys * 2 * d + (part * layout.num_heads + head) * size;
                    RowsMut { first: Shared::new(kv_result.get().add(offset)), stride: 2 * d }
                };
                layout.head(operands, bias, clip, head, 0, layout.queries).backward(workspace, gradient, [dq, part(0), part(1)]);
            }
        });
    });
    // SAFETY: all heads of all clips make up the results.
    let (dq, dkv) = unsafe { (dq.written(), dkv.written()) };
    Ok([Tensor::from_vec(dq, q.dims(), q.device())?, Tensor::from_vec(dkv, kv.dims(), kv.device())?])
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::backend::reference::cross_attention as reference;
    use crate::finite_difference::{assert_close_at, pseudo_random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            (b, queries, keys) in (1usize..3, 1usize..260, 1usize..90),
            (num_heads, head_size) in (1usize..4, 1usize..27),
            (masked, transposed, bf16) in (any::<bool>(), any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            // bfloat16 has 8 bits of precision: where a sum rounds to the other side of a tie, a weight changes by 1/256.
            let tolerance = if bf16 { 8e-3 } else { 2e-5 };
            let run = || -> Result<()> {
                // The same values with other strides.
                let random = |dims: [usize; 3], seed| {
                    let t = (pseudo_random(&dims, seed)? * 2.0)?;
                    if transposed { Ok(t.transpose(1, 2)?.contiguous()?.transpose(1, 2)?) } else { Result::Ok(t) }
                };
                let d = num_heads * head_size;
                let (q, kv) = (random([b, queries, d], seed)?, random([b, keys, 2 * d], seed ^ 1)?);
                let gradient = random([b, queries, d], seed ^ 2)?;
                // Every third key is ignored, but not the first.
                let ignored = (0..b * keys).map(|i| if i % keys % 3 == 2 { -10000f32 } else { 0.0 }).collect::<Vec<_>>();
                let bias = Tensor::from_vec(ignored, (b, keys), &Device::Cpu)?;
                let bias = masked.then_some(&bias);
                let layout = Layout::of(&(&q).into(), &(&kv).into(), num_heads, bias.map(crate::Value::from).as_ref())?;
                // The largest terms of each sum: rounding errors scale with the terms, also where the terms cancel.
                let [q_heads, k, v, p] = reference::parts(precision, &layout, &q, &kv, bias)?;
                let largest = |t: &Tensor| Result::Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?));
                let (values, keys_seen) = (largest(&v)?, largest(&p.sum(2)?)?);
                let change = values * head_size as f64 / (head_size as f64).sqrt(); // |∂ loss / ∂ score| ≤ p · |g · v|, |g| ≤ 1
                let expected = reference::forward(precision, &layout, &q, &kv, bias)?;
                assert_close_at(&forward(precision, &layout, &q, &kv, bias, false)?, &expected, tolerance, values)?;
                let [dq, dkv] = reference::backward(precision, &layout, &q, &kv, bias, &gradient)?;
                let [our_dq, our_dkv] = backward(precision, &layout, &q, &kv, bias, &gradient)?;
                assert_close_at(&our_dq, &dq, tolerance, change * largest(&k)?)?;
                let part = |t: &Tensor, i: usize| Result::Ok(t.narrow(2, i * d, d)?);
                let queries = change * keys_seen * largest(&q_heads)?;
                assert_close_at(&part(&our_dkv, 0)?, &part(&dkv, 0)?, tolerance, queries)?;
                assert_close_at(&part(&our_dkv, 1)?, &part(&dkv, 1)?, tolerance, keys_seen)?;
                Ok(())
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
