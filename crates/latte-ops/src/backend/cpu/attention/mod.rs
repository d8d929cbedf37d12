//! Attention on the CPU. The heads of all sequences are spread over all threads. Queries, keys and values are read in place from
//! the packed tensor, and results are written in place: no tensor of the size of the input is permuted.

pub(super) mod cross;
mod head;
mod joint;
#[cfg(target_arch = "x86_64")]
mod softmax_avx512;

use candle_core::Tensor;
use rayon::prelude::*;

use super::buffer::{Shared, Unwritten};
use super::gemm::{Kernel, Matrix};
use super::operand::{Operands, readable};
use super::slices::Values;
use crate::ops::attention::{AttentionAxis, Layout, SelfAttention};
use crate::tape::{Computed, Gradient};
use crate::{Precision, Result};
use head::{Head, RowsMut, Workspace};

/// Cosines and sines of rotary positions, `[positions, k/2]`.
type Tables = [Tensor; 2];

pub(super) fn attention(call: &SelfAttention<'_>) -> Result<Computed<'static>> {
    let (context, qkv) = (call.context, call.qkv.fetch()?);
    if call.layout.axis == AttentionAxis::Joint && !context.recording && call.rope.is_none() {
        return Ok(Computed::without_gradient(joint::forward(context.precision, call.layout, &qkv)?));
    }
    let (precision, layout, output) = (context.precision, call.layout.in_frames(), call.layout.output());
    let rope = call.rope.map(|[cos, sin]| Ok::<_, crate::Error>([cos.fetch()?, sin.fetch()?])).transpose()?;
    let y = forward(precision, &layout, rope.as_ref(), &qkv, context.keeps_pairs())?.reshape(&output)?;
    Ok(Computed::new(y, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let dqkv = backward(precision, &layout, rope.as_ref(), &qkv.contiguous()?, &gradient)?;
        Ok(vec![Some(Gradient::owned(dqkv))])
    }))
}

/// The rows of all sequences: token `i` of sequence `s` is in row `first(s) + i · stride`.
#[derive(Debug, Clone, Copy)]
struct Rows {
    sequences: usize,
    tokens: usize,
    stride: usize,
    layout_n: usize,
    axis: AttentionAxis,
}

impl Rows {
    fn of(layout: &Layout) -> Self {
        let [b, f, n] = layout.dims;
        match layout.axis {
            AttentionAxis::Spatial | AttentionAxis::Joint => {
                Self { sequences: b * f, tokens: n, stride: 1, layout_n: n, axis: layout.axis }
            }
            AttentionAxis::Temporal => Self { sequences: b * n, tokens: f, stride: n, layout_n: n, axis: layout.axis },
        }
    }

    fn first(&self, sequence: usize) -> usize {
        match self.axis {
            AttentionAxis::Spatial | AttentionAxis::Joint => sequence * self.layout_n,
            // Sequences of one clip begin in neighbouring rows; those of the next clip begin f·n rows further.
            AttentionAxis::Temporal => sequence / self.layout_n * self.layout_n * self.tokens + sequence % self.layout_n,
        }
    }
}

/// The arguments that all sequences and heads share.
#[derive(Debug, Clone, Copy)]
struct Job<'p> {
    layout: &'p Layout,
    /// Cosines and sines.
    rope: Option<[&'p [f32]; 2]>,
    rows: Rows,
}

impl<'p> Job<'p> {
    /// Values in a row of the packed tensor.
    fn width(&self) -> usize {
        3 * self.layout.num_heads * self.layout.head_size
    }

    /// Values in a row of the output.
    fn out_width(&self) -> usize {
        self.layout.heads.len() * self.layout.head_size
    }

    /// The offset of `part` (0 q, 1 k, 2 v) of `head` of the first token of `sequence` in the packed tensor.
    fn offset(&self, sequence: usize, head: usize, part: usize) -> usize {
        self.rows.first(sequence) * self.width() + (part * self.layout.num_heads + head) * self.layout.head_size
    }

    /// The offset of `head` of the first token of `sequence` in the output.
    fn out_offset(&self, sequence: usize, head: usize) -> usize {
        self.rows.first(sequence) * self.out_width() + (head - self.layout.heads.start) * self.layout.head_size
    }

    /// The operands of a head. `rows` makes each from an offset in the packed tensor and a row stride.
    fn head<O>(&self, sequence: usize, head: usize, rows: impl Fn(usize, usize) -> O) -> Head<'p, O> {
        let part = |part| rows(self.offset(sequence, head, part), self.rows.stride * self.width());
        let tokens = self.rows.tokens;
        Head {
            size: self.layout.head_size,
            queries: tokens,
            keys: tokens,
            q: part(0),
            k: part(1),
            v: part(2),
            rope: self.rope,
            bias: None,
        }
    }

    /// Calls `work` for each head of each sequence, on all threads.
    fn each_head(&self, precision: Precision, work: impl Fn(&mut Workspace, usize, usize) + Sync) {
        let kernel = Kernel::of(precision);
        // Neighbouring sequences of few tokens share cache lines and pages: a task takes several, with all their heads.
        let per_task = (256 / self.rows.tokens.max(1)).clamp(1, self.rows.sequences.max(1));
        let heads = if per_task == 1 { 1 } else { self.layout.heads.len() };
        let head_tasks = self.layout.heads.len() / heads.max(1);
        let tasks = self.rows.sequences.div_ceil(per_task) * head_tasks;
        (0..tasks).into_par_iter().with_max_len(1).for_each(|task| {
            Workspace::with(kernel, |workspace| {
                let first = task / head_tasks * per_task;
                let first_head = self.layout.heads.start + task % head_tasks * heads;
                for sequence in first..(first + per_task).min(self.rows.sequences) {
                    for head in first_head..first_head + heads {
                        work(workspace, sequence, head);
                    }
                }
            });
        });
    }
}

/// Calls `f` with the job of one call.
fn with_job<R>(layout: &Layout, rope: Option<&Tables>, f: impl FnOnce(&Job<'_>) -> R) -> Result<R> {
    // A tensor gives its values behind a lock that threads cannot share; they can share slices.
    let tables = rope.map(|rope| Ok::<_, crate::Error>([Values::of(&rope[0])?, Values::of(&rope[1])?])).transpose()?;
    let rope = tables.as_ref().map(|[cos, sin]| [&**cos, &**sin]);
    Ok(f(&Job { layout, rope, rows: Rows::of(layout) }))
}

/// The output; with `to_pairs`, which needs a kernel of pairs, rounded to bfloat16.
fn forward(precision: Precision, layout: &Layout, rope: Option<&Tables>, qkv: &Tensor, to_pairs: bool) -> Result<Tensor> {
    let [b, f, n] = layout.dims;
    let width = layout.heads.len() * layout.head_size;
    // Rotation needs values: words would have to be converted back.
    let whole_words = if rope.is_none() { layout.head_size } else { 1 };
    let qkv = readable(precision, qkv, whole_words)?;
    let operands = Operands::of(&qkv)?;
    let operands = operands.slice();
    let write = |rows: &(dyn Fn(usize, usize) -> head::Rows + Sync)| {
        with_job(layout, rope, |job| {
            job.each_head(precision, |workspace, sequence, head| {
                let out = rows(job.out_offset(sequence, head), job.rows.stride * width);
                let head = job.head(sequence, head, |offset, stride| operands.rows(offset, stride));
                // SAFETY: rows of one head of one sequence lie inside the result, and no other task writes them.
                unsafe { head.forward(workspace, out) };
            });
        })
    };
    // SAFETY: all heads of all sequences make up the result.
    unsafe { head::result(&[b, f, n, width], to_pairs, write) }
}

fn backward(precision: Precision, layout: &Layout, rope: Option<&Tables>, qkv: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let gradient = Values::of(&gradient)?;
    let gradient: &[f32] = &gradient;
    // Heads that take no part have a gradient of zero.
    let all_heads = layout.heads.len() == layout.num_heads;
    let mut out = if all_heads { Unwritten::<f32>::new(qkv.elem_count()) } else { Unwritten::zeros(qkv.elem_count()) };
    let result = Shared::new(out.as_mut_ptr());
    let operands = Values::of(qkv)?;
    let operands: &[f32] = &operands;
    with_job(layout, rope, |job| {
        job.each_head(precision, |workspace, sequence, head| {
            let stride = job.rows.stride * job.out_width();
            let gradient = Matrix::rows(&gradient[job.out_offset(sequence, head)..], stride);
            // SAFETY: rows of one head of one sequence lie inside the result, and no other task writes them.
            unsafe {
                let part = |part| RowsMut {
                    first: Shared::new(result.get().add(job.offset(sequence, head, part))),
                    stride: job.rows.stride * job.width(),
                };
                let rows = |offset: usize, stride| Matrix::rows(&operands[offset..], stride);
                job.head(sequence, head, rows).backward(workspace, gradient, [part(0), part(1), part(2)]);
            }
        });
    })?;
    // SAFETY: all heads of all sequences make up the result, and the parts of others were zeros.
    let out = unsafe { out.written() };
    Ok(Tensor::from_vec(out, qkv.dims(), qkv.device())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Rope;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::backend::reference::attention as reference;
    use crate::finite_difference::{assert_close, pseudo_random};

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
                Layout { axis, dims: [b, f, n], num_heads, head_size: 2 * half_size, heads: first..num_heads };
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            // bfloat16 has 8 bits of precision: where a sum rounds to the other side of a tie, a weight changes by 1/256.
            let tolerance = if bf16 { 8e-3 } else { 2e-5 };
            let run = || -> Result<()> {
                let qkv = (pseudo_random(&[b, f, n, 6 * num_heads * half_size], seed)? * 2.0)?;
                let rope = Rope::new(layout.sequence(), layout.head_size, &(&qkv).into())?;
                let [cos, sin] = rope.tables();
                let tables = [cos.fetch()?, sin.fetch()?];
                let plain_tables = reference::Tables::fetch(rope.tables())?;
                let (rope, reference_rope) = (rotates.then_some(&tables), rotates.then_some(&plain_tables));
                let gradient = pseudo_random(&[b, f, n, 2 * layout.heads.len() * half_size], seed ^ 1)?;
                let (ours, expected) = (forward(precision, &layout, rope, &qkv, false)?, reference::forward(precision, &layout, reference_rope, &qkv)?);
                assert_close(&ours, &expected, tolerance)?;
                let expected = reference::backward(precision, &layout, reference_rope, &qkv, &gradient)?;
                assert_close(&backward(precision, &layout, rope, &qkv, &gradient)?, &expected, tolerance)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
