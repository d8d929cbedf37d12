//! Attention on the CPU: heads of sequences are spread over all threads; each gathers its rows from the packed tensor, works in
//! buffers of its own, and scatters the result, so that nothing of the size of the input is permuted.

use candle_core::Tensor;
use rayon::prelude::*;

use super::reference::Layout;
use super::{AttentionAxis, Rope};
use crate::gemm::{Matrix, Threads, multiply};
use crate::slices::Values;
use crate::vectorised::{exp, sum, vectorised};
use crate::{Precision, Result};

/// Where the tokens of all sequences lie: sequence `s` has its `i`-th token in row `first(s) + i · stride`.
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
            AttentionAxis::Spatial => Self { sequences: b * f, tokens: n, stride: 1, layout_n: n, axis: layout.axis },
            AttentionAxis::Temporal => Self { sequences: b * n, tokens: f, stride: n, layout_n: n, axis: layout.axis },
        }
    }

    fn first(&self, sequence: usize) -> usize {
        match self.axis {
            AttentionAxis::Spatial => sequence * self.layout_n,
            // Sequences of one clip begin in neighbouring rows, those of the next f·n rows further.
            AttentionAxis::Temporal => sequence / self.layout_n * self.layout_n * self.tokens + sequence % self.layout_n,
        }
    }
}

vectorised! {
    /// Softmax of each row.
    fn softmax(scores: &mut [f32], width: usize) {
        for row in scores.chunks_exact_mut(width) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
            for v in row.iter_mut() {
                *v = exp(*v - largest);
            }
            let inverse = 1.0 / sum(width, |i| row[i]);
            for v in row.iter_mut() {
                *v *= inverse;
            }
        }
    }
}

vectorised! {
    /// The gradient of scores from that of their softmax `p`: p·(dp − Σ dp·p), in place of `dp`.
    fn backward_softmax(dp: &mut [f32], p: &[f32], width: usize) {
        for (dp, p) in dp.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
            let dot = sum(width, |i| dp[i] * p[i]);
            for (d, p) in dp.iter_mut().zip(p) {
                *d = p * (*d - dot);
            }
        }
    }
}

/// Rounds to bfloat16 (to nearest, ties to even), where products are to be formed of such operands.
fn round(precision: Precision, values: &mut [f32]) {
    if precision == Precision::Bf16 {
        for v in values {
            let bits = v.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
            if !v.is_nan() {
                *v = f32::from_bits(rounded);
            }
        }
    }
}

/// What is the same for all sequences and heads.
struct Kernel<'p> {
    precision: Precision,
    layout: &'p Layout,
    /// Cosines and sines.
    rope: Option<[&'p [f32]; 2]>,
    rows: Rows,
    qkv: &'p [f32],
}

/// One head of one sequence: rotated and rounded operands, each `[tokens, k]`.
struct Head {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Softmax of the scores `[tokens, tokens]`.
    p: Vec<f32>,
}

impl Kernel<'_> {
    /// Rotates `[tokens, k]` by `sign` times the angle of each token.
    fn rotate(&self, x: &mut [f32], sign: f32) {
        let Some([cos, sin]) = self.rope else { return };
        for ((pair, cos), sin) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
            let [even, odd] = *pair;
            *pair = [even * cos - sign * odd * sin, sign * even * sin + odd * cos];
        }
    }

    /// The offset of `part` (0 q, 1 k, 2 v) of `head` in a row of the packed tensor.
    fn column(&self, part: usize, head: usize) -> usize {
        (part * self.layout.num_heads + head) * self.layout.head_size
    }

    fn width(&self) -> usize {
        3 * self.layout.num_heads * self.layout.head_size
    }

    /// Copies rows of `head_size` values, the first at `offset`, `step` apart.
    fn gather(&self, values: &[f32], offset: usize, step: usize) -> Vec<f32> {
        let size = self.layout.head_size;
        let mut out = Vec::with_capacity(self.rows.tokens * size);
        for i in 0..self.rows.tokens {
            out.extend_from_slice(&values[offset + i * step..][..size]);
        }
        out
    }

    fn head(&self, sequence: usize, head: usize) -> Head {
        let (width, tokens, size) = (self.width(), self.rows.tokens, self.layout.head_size);
        let part = |part: usize, turns: bool| {
            let offset = self.rows.first(sequence) * width + self.column(part, head);
            let mut x = self.gather(self.qkv, offset, self.rows.stride * width);
            if turns {
                self.rotate(&mut x, 1.0);
            }
            round(self.precision, &mut x);
            x
        };
        let (q, k, v) = (part(0, true), part(1, true), part(2, false));
        let mut p = vec![0.0; tokens * tokens];
        let scale = self.layout.scale() as f32;
        multiply(
            &mut p,
            [tokens, size, tokens],
            Matrix::rows(&q, size),
            Matrix::rows(&k, size).transposed(),
            scale,
            Threads::One,
        );
        softmax(&mut p, tokens);
        Head { q, k, v, p }
    }

    /// Output `[tokens, k]`.
    fn forward(&self, sequence: usize, head: usize) -> Vec<f32> {
        let (tokens, size) = (self.rows.tokens, self.layout.head_size);
        let Head { mut p, v, .. } = self.head(sequence, head);
        round(self.precision, &mut p);
        let mut out = vec![0.0; tokens * size];
        multiply(&mut out, [tokens, tokens, size], Matrix::rows(&p, tokens), Matrix::rows(&v, size), 1.0, Threads::One);
        out
    }

    /// Gradients of q, k and v from that of the output.
    fn backward(&self, sequence: usize, head: usize, gradient: &[f32]) -> [Vec<f32>; 3] {
        let (tokens, size) = (self.rows.tokens, self.layout.head_size);
        let out_width = self.layout.heads.len() * size;
        let offset = self.rows.first(sequence) * out_width + (head - self.layout.heads.start) * size;
        let mut gradient = self.gather(gradient, offset, self.rows.stride * out_width);
        round(self.precision, &mut gradient);
        let Head { q, k, v, mut p } = self.head(sequence, head);
        let mut ds = vec![0.0; tokens * tokens];
        multiply(
            &mut ds,
            [tokens, size, tokens],
            Matrix::rows(&gradient, size),
            Matrix::rows(&v, size).transposed(),
            1.0,
            Threads::One,
        );
        backward_softmax(&mut ds, &p, tokens);
        let scale = self.layout.scale() as f32;
        for v in &mut ds {
            *v *= scale;
        }
        round(self.precision, &mut ds);
        round(self.precision, &mut p);
        let product = |a: Matrix<'_>, b: &[f32]| {
            let mut out = vec![0.0; tokens * size];
            multiply(&mut out, [tokens, tokens, size], a, Matrix::rows(b, size), 1.0, Threads::One);
            out
        };
        let mut dq = product(Matrix::rows(&ds, tokens), &k);
        let mut dk = product(Matrix::rows(&ds, tokens).transposed(), &q);
        let dv = product(Matrix::rows(&p, tokens).transposed(), &gradient);
        self.rotate(&mut dq, -1.0);
        self.rotate(&mut dk, -1.0);
        [dq, dk, dv]
    }
}

/// Sequences per piece of parallel work, and with them the number of pieces whose results are held at once.
const SEQUENCES_PER_TASK: usize = 16;

/// Works out `results` of all heads of all sequences on all threads, and hands each to `scatter` in order.
fn each_head<R: Send>(kernel: &Kernel<'_>, work: impl Fn(usize, usize) -> R + Sync, mut scatter: impl FnMut(usize, usize, R)) {
    let heads = kernel.layout.heads.clone();
    let sequences = kernel.rows.sequences;
    let batch = SEQUENCES_PER_TASK * rayon::current_num_threads();
    for start in (0..sequences).step_by(batch) {
        let end = (start + batch).min(sequences);
        let results: Vec<(usize, usize, R)> = (start..end)
            .into_par_iter()
            .flat_map_iter(|s| heads.clone().map(move |h| (s, h)))
            .map(|(s, h)| (s, h, work(s, h)))
            .collect();
        for (s, h, r) in results {
            scatter(s, h, r);
        }
    }
}

/// Runs `f` with the kernel of one call.
fn with_kernel<R>(
    precision: Precision,
    layout: &Layout,
    rope: Option<&Rope>,
    qkv: &Tensor,
    f: impl FnOnce(&Kernel<'_>) -> Result<R>,
) -> Result<R> {
    // Tensors hand out their values behind locks that threads cannot share; slices they can.
    let tables = rope.map(|rope| Ok::<_, crate::Error>([Values::of(rope.cos())?, Values::of(rope.sin())?])).transpose()?;
    let rope = tables.as_ref().map(|[cos, sin]| [&**cos, &**sin]);
    let qkv = Values::of(qkv)?;
    f(&Kernel { precision, layout, rope, rows: Rows::of(layout), qkv: &qkv })
}

pub(super) fn forward(precision: Precision, layout: &Layout, rope: Option<&Rope>, qkv: &Tensor) -> Result<Tensor> {
    let [b, f, n] = layout.dims;
    let (size, width) = (layout.head_size, layout.heads.len() * layout.head_size);
    let mut out = vec![0.0; b * f * n * width];
    with_kernel(precision, layout, rope, qkv, |kernel| {
        each_head(
            kernel,
            |s, h| kernel.forward(s, h),
            |s, h, values| {
                let offset = kernel.rows.first(s) * width + (h - layout.heads.start) * size;
                scatter(&mut out, offset, kernel.rows.stride * width, &values, size);
            },
        );
        Ok(())
    })?;
    Ok(Tensor::from_vec(out, (b, f, n, width), qkv.device())?)
}

pub(super) fn backward(
    precision: Precision,
    layout: &Layout,
    rope: Option<&Rope>,
    qkv: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let gradient = Values::of(&gradient)?;
    let gradient: &[f32] = &gradient;
    let size = layout.head_size;
    let mut out = vec![0.0; qkv.elem_count()];
    with_kernel(precision, layout, rope, qkv, |kernel| {
        let width = kernel.width();
        each_head(
            kernel,
            |s, h| kernel.backward(s, h, gradient),
            |s, h, parts| {
                for (part, values) in parts.iter().enumerate() {
                    let offset = kernel.rows.first(s) * width + kernel.column(part, h);
                    scatter(&mut out, offset, kernel.rows.stride * width, values, size);
                }
            },
        );
        Ok(())
    })?;
    Ok(Tensor::from_vec(out, qkv.dims(), qkv.device())?)
}

/// The inverse of [`Kernel::gather`].
fn scatter(out: &mut [f32], offset: usize, step: usize, values: &[f32], size: usize) {
    for (i, row) in values.chunks_exact(size).enumerate() {
        out[offset + i * step..][..size].copy_from_slice(row);
    }
}
