//! One head of one sequence: scores, softmax and sums for a block of queries at a time, so that the scores of a block stay in the
//! cache and those of a whole sequence are never in memory at once. The backward pass computes the scores again.

use std::cell::Cell;

use candle_core::{Device, Tensor};
use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::softmax_avx512;
use crate::Result;
use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::gemm::{self, Kernel, Matrix, Operand, Packed, Pairs, Scratch, multiply_block};
use crate::backend::cpu::vectorised::{exp, mul_add, sum, vectorised};

/// Bytes of the scores of one block of queries: together with as many gradients and the packed keys they fit the L2 cache.
const SCORES: usize = 96 << 10;
/// Padding values between rows of scores, so that rows do not all begin in the same set of the cache.
const PADDING: usize = 16;

/// Rows of `head_size` values in a result, with a distance of `stride` values. No other thread touches them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsMut<T = f32> {
    pub(super) first: Shared<T>,
    pub(super) stride: usize,
}

impl<T> RowsMut<T> {
    /// These rows from row `row` on.
    ///
    /// # Safety
    ///
    /// There are at least `row` rows.
    unsafe fn behind(self, row: usize) -> Self {
        // SAFETY: inside the result by the function's contract.
        Self { first: Shared::new(unsafe { self.first.get().add(row * self.stride) }), stride: self.stride }
    }
}

impl RowsMut {
    /// Copies `values`, rows of `size`, to the rows.
    ///
    /// # Safety
    ///
    /// There are as many rows, each of `size` values.
    unsafe fn write(self, values: &[f32], size: usize) {
        for (i, row) in values.chunks_exact(size).enumerate() {
            // SAFETY: inside the result by the function's contract, and no other thread touches these rows.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), self.first.get().add(i * self.stride), size) };
        }
    }
}

/// Rows of a result of the forward pass: f32 values, or words of pairs for matmuls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows {
    Values(RowsMut),
    Pairs(RowsMut<bf16>),
}

/// A result of `shape` on the CPU: words of pairs (bfloat16) with `to_pairs`, else values. `write` gets a function that returns the
/// rows at an offset and a stride.
///
/// # Safety
///
/// `write` asks only for rows inside the result, and writes all of it, no row from two threads; words of pairs need a kernel of
/// pairs.
pub(super) unsafe fn result(
    shape: &[usize],
    to_pairs: bool,
    write: impl FnOnce(&(dyn Fn(usize, usize) -> Rows + Sync)) -> Result<()>,
) -> Result<Tensor> {
    let len = shape.iter().product();
    // SAFETY: offsets are inside the result, and all of it is written, as the caller says.
    unsafe {
        if to_pairs {
            let mut out = Unwritten::<bf16>::new(len);
            let first = Shared::new(out.as_mut_ptr());
            write(&|offset, stride| Rows::Pairs(RowsMut { first: Shared::new(first.get().add(offset)), stride }))?;
            return Ok(Tensor::from_vec(out.written(), shape, &Device::Cpu)?);
        }
        let mut out = Unwritten::<f32>::new(len);
        let first = Shared::new(out.as_mut_ptr());
        write(&|offset, stride| Rows::Values(RowsMut { first: Shared::new(first.get().add(offset)), stride }))?;
        Ok(Tensor::from_vec(out.written(), shape, &Device::Cpu)?)
    }
}

/// The operands of one head: rows of `size` values for each token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'s, O> {
    pub(super) size: usize,
    /// The number of queries.
    pub(super) queries: usize,
    /// The number of keys and values.
    pub(super) keys: usize,
    pub(super) q: O,
    pub(super) k: O,
    pub(super) v: O,
    /// Cosines and sines `[tokens, size / 2]` that rotate queries and keys.
    pub(super) rope: Option<[&'s [f32]; 2]>,
    /// The bias that is added to the scores of each key.
    pub(super) bias: Option<&'s [f32]>,
}

/// Scratch memory of a thread, reused for one head after the other.
#[derive(Debug)]
pub(super) struct Workspace {
    kernel: Kernel,
    keys: Packed,
    values: Packed,
    /// Transposed keys or values, and blocks of queries and gradients, for the backward pass.
    other: [Packed; 3],
    scores: Vec<f32>,
    /// Exponentials of scores as operands of a matmul.
    words: Vec<u32>,
    score_gradients: Vec<f32>,
    turned: [Vec<f32>; 2],
    /// The sum of exponentials of each row of a block.
    totals: Vec<f32>,
    /// Results of a block before rounding.
    results: Vec<f32>,
    /// The gradients of keys and of values, summed over blocks.
    sums: [Vec<f32>; 2],
    scratch: Scratch,
}

thread_local! {
    /// The workspace of this thread's last task: tasks are many and short, and most have the same sizes.
    static LAST: Cell<Option<Workspace>> = const { Cell::new(None) };
}

impl Workspace {
    /// Calls `work` with scratch memory that the tasks of one thread reuse.
    pub(super) fn with<R>(kernel: Kernel, work: impl FnOnce(&mut Self) -> R) -> R {
        let mut workspace = LAST.take().filter(|last| last.kernel == kernel).unwrap_or_else(|| Self::new(kernel));
        let result = work(&mut workspace);
        LAST.set(Some(workspace));
        result
    }

    fn new(kernel: Kernel) -> Self {
        let packed = || Packed::empty(kernel);
        Self {
            kernel,
            keys: packed(),
            values: packed(),
            other: [packed(), packed(), packed()],
            scores: Vec::new(),
            words: Vec::new(),
            score_gradients: Vec::new(),
            turned: Default::default(),
            totals: Vec::new(),
            results: Vec::new(),
            sums: Default::default(),
            scratch: Scratch::default(),
        }
    }
}

vectorised! {
    /// The gradients of scores from those of their softmax `p`: p·(dp − Σ dp·p)·scale, written over `dp`.
    fn backward_softmax(dp: &mut [f32], p: &[f32], width: usize, stride: usize, scale: f32) {
        for (dp, p) in dp.chunks_mut(stride).zip(p.chunks(stride)) {
            let (dp, p) = (&mut dp[..width], &p[..width]);
            let dot = sum(width, |i| dp[i] * p[i]);
            for (d, p) in dp.iter_mut().zip(p) {
                *d = p * (*d - dot) * scale;
            }
        }
    }
}

vectorised! {
    /// Softmax of `scale · scores + bias` for each row, without the division by the sum of exponentials. The sums are written to
    /// `totals`.
    fn exponentials(scores: &mut [f32], width: usize, stride: usize, scale: f32, bias: &[f32], totals: &mut Vec<f32>) {
        const LANES: usize = 16;
        for row in scores.chunks_mut(stride) {
            let row = &mut row[..width];
            if !bias.is_empty() {
                for (v, bias) in row.iter_mut().zip(bias) {
                    *v = mul_add::<FUSED>(*v, scale, *bias);
                }
            }
            // Without a bias the scale, which is positive, is applied after the maximum is known.
            let scale = if bias.is_empty() { scale } else { 1.0 };
            let (whole, rest) = row.as_chunks_mut::<LANES>();
            let mut lanes = [f32::NEG_INFINITY; LANES];
            for values in &*whole {
                for (lane, &v) in lanes.iter_mut().zip(values) {
                    *lane = if v > *lane { v } else { *lane };
                }
            }
            // A row whose keys are all masked would otherwise compute ∞ − ∞.
            let largest = lanes.iter().chain(&*rest).fold(f32::MIN, |m, &v| if v > m { v } else { m });
            let mut sums = [0f32; LANES];
            for values in whole {
                for (sum, v) in sums.iter_mut().zip(values) {
                    *v = exp::<FUSED>((*v - largest) * scale);
                    *sum += *v;
                }
            }
            for v in &mut *rest {
                *v = exp::<FUSED>((*v - largest) * scale);
            }
            totals.push(sums.iter().chain(&*rest).sum());
        }
    }
}

/// Softmax of rows of `width` scores with a distance of `stride`, without the division by the sums of exponentials, which are
/// written to `totals`: in place, or as words if the kernel's operands are words of pairs.
fn softmax_operand<'s>(
    kernel: Kernel,
    words: &'s mut Vec<u32>,
    scores: &'s mut [f32],
    [width, stride]: [usize; 2],
    scale: f32,
    bias: &[f32],
    totals: &mut Vec<f32>,
) -> Operand<'s> {
    #[cfg(target_arch = "x86_64")]
    if kernel.pairs() {
        let depth = kernel.depth(width);
        words.resize(scores.len() / stride * depth, 0);
        // SAFETY: only processors with AVX-512-BF16 have kernels of pairs.
        unsafe { softmax_avx512::exponentials(words, scores, [width, stride], scale, bias, totals) };
        return Pairs { words, stride: depth }.into();
    }
    let _ = (kernel, words);
    exponentials(scores, width, stride, scale, bias, totals);
    Matrix::rows(scores, stride).into()
}

vectorised! {
    /// Multiplies each value.
    fn scale_row(row: &mut [f32], factor: f32) {
        for value in row {
            *value *= factor;
        }
    }
}

/// Rotates rows of `size` values by `sign` times the angle of each token.
fn turn(rows: &mut [f32], rope: [&[f32]; 2], first_token: usize, size: usize, sign: f32) {
    let [cos, sin] = rope.map(|table| &table[first_token * size / 2..]);
    for ((pair, cos), sin) in rows.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let [even, odd] = *pair;
        *pair = [even * cos - sign * odd * sin, sign * even * sin + odd * cos];
    }
}

/// Copies rotated rows into contiguous memory.
fn turned<'t>(to: &'t mut Vec<f32>, from: Matrix<'_>, rope: [&[f32]; 2], tokens: usize, size: usize) -> Matrix<'t> {
    to.clear();
    for i in 0..tokens {
        to.extend_from_slice(&from.values[i * from.row..][..size]);
    }
    turn(to, rope, 0, size, 1.0);
    Matrix::rows(to, size)
}

impl<O> Head<'_, O> {
    fn scale(&self) -> f32 {
        (1.0 / (self.size as f64).sqrt()) as f32
    }

    /// The row stride of the scores, and the rows of a block.
    fn blocks(&self) -> [usize; 2] {
        let stride = self.keys.next_multiple_of(PADDING) + PADDING;
        let rows = (SCORES / size_of::<f32>() / stride / 6 * 6).clamp(12, 96);
        [stride, rows.min(self.queries.next_multiple_of(6))]
    }
}

impl Head<'_, Operand<'_>> {
    /// The output of all queries.
    ///
    /// # Safety
    ///
    /// `out` has a row of `size` values for each query, which no other thread touches; words of pairs only with a kernel of pairs.
    ///
    /// # Panics
    ///
    /// If an operand is too short, or if pairs would have to be rotated.
    pub(super) unsafe fn forward(&self, workspace: &mut Workspace, out: Rows) {
        let Workspace { keys, values, scores, words, turned: [queries, turned_keys], totals, results, scratch, .. } = workspace;
        let (mut q, mut k, size) = (self.q, self.k, self.size);
        if let Some(rope) = self.rope {
            let (Operand::Values(plain_q), Operand::Values(plain_k)) = (q, k) else { panic!("only values can be turned") };
            q = turned(queries, plain_q, rope, self.queries, size).into();
            k = turned(turned_keys, plain_k, rope, self.keys, size).into();
        }
        keys.pack_transposed(k, size, self.keys);
        values.pack(self.v, self.keys, size);
        let [stride, block] = self.blocks();
        scores.resize(block * stride, 0.0);
        results.resize(block * size, 0.0);
        for first in (0..self.queries).step_by(block) {
            let rows = block.min(self.queries - first);
            let scores = &mut scores[..rows * stride];
            // SAFETY: the blocks of scores and results are this thread's alone, and `out` has rows for all queries.
            unsafe {
                multiply_block(scores.as_mut_ptr(), stride, rows, q.rows_from(first), keys, false, scratch);
                totals.clear();
                let (scale, bias) = (self.scale(), self.bias.unwrap_or_default());
                let (result, result_stride) = match out {
                    Rows::Values(out) => (out.behind(first).first.get(), out.stride),
                    Rows::Pairs(_) => (results.as_mut_ptr(), size),
                };
                let operand = softmax_operand(values.kernel, words, scores, [self.keys, stride], scale, bias, totals);
                multiply_block(result, result_stride, rows, operand, values, false, scratch);
                for (i, total) in totals.iter().enumerate() {
                    let row = std::slice::from_raw_parts_mut(result.add(i * result_stride), size);
                    scale_row(row, 1.0 / total);
                    if let Rows::Pairs(out) = out {
                        gemm::round_row(out.behind(first + i).first.get(), row);
                    }
                }
            }
        }
    }
}

impl Head<'_, Matrix<'_>> {
    /// The gradients of queries, keys and values from `gradient`, the rows of the output's gradient.
    ///
    /// # Safety
    ///
    /// `dq` has a row of `size` values for each query, `dk` and `dv` one for each key, which no other thread touches.
    pub(super) unsafe fn backward(&self, workspace: &mut Workspace, gradient: Matrix<'_>, [dq, dk, dv]: [RowsMut; 3]) {
        let Workspace {
            keys,
            values,
            other: [keys_by_token, query_block, gradient_block],
            scores,
            score_gradients,
            turned: [queries, turned_keys],
            totals,
            sums: [key_sums, value_sums],
            scratch,
            results: _,
            words: _,
            kernel: _,
        } = workspace;
        let (mut q, mut k, size) = (self.q, self.k, self.size);
        if let Some(rope) = self.rope {
            q = turned(queries, q, rope, self.queries, size);
            k = turned(turned_keys, k, rope, self.keys, size);
        }
        keys.pack_transposed(k, size, self.keys);
        values.pack_transposed(self.v, size, self.keys);
        keys_by_token.pack(k, self.keys, size);
        let [stride, block] = self.blocks();
        key_sums.resize(self.keys * size, 0.0);
        value_sums.resize(self.keys * size, 0.0);
        // Behind the last row, tiles read the padding that fills a strip.
        scores.resize(block * stride + PADDING, 0.0);
        score_gradients.resize(block * stride + PADDING, 0.0);
        for first in (0..self.queries).step_by(block) {
            let rows = block.min(self.queries - first);
            let (q, gradient) = (q.rows_from(first), gradient.rows_from(first));
            // SAFETY: the blocks and sums are this thread's alone, and `dq` has rows for all queries.
            unsafe {
                multiply_block(scores.as_mut_ptr(), stride, rows, q, keys, false, scratch);
                totals.clear();
                let p = &mut scores[..rows * stride];
                exponentials(p, self.keys, stride, self.scale(), self.bias.unwrap_or_default(), totals);
                for (row, total) in p.chunks_mut(stride).zip(totals.iter()) {
                    let inverse = 1.0 / total;
                    scale_row(&mut row[..self.keys], inverse);
                }
                multiply_block(score_gradients.as_mut_ptr(), stride, rows, gradient, values, false, scratch);
                backward_softmax(&mut score_gradients[..rows * stride], p, self.keys, stride, self.scale());
                let dq = dq.behind(first);
                multiply_block(
                    dq.first.get(),
                    dq.stride,
                    rows,
                    Matrix::rows(score_gradients, stride),
                    keys_by_token,
                    false,
                    scratch,
                );
                if let Some(rope) = self.rope {
                    for i in 0..rows {
                        let row = std::slice::from_raw_parts_mut(dq.first.get().add(i * dq.stride), size);
                        turn(row, rope, first + i, size, -1.0);
                    }
                }
                query_block.pack(q, rows, size);
                gradient_block.pack(gradient, rows, size);
                let by_key = |values| Matrix::rows(values, stride).transposed();
                multiply_block(key_sums.as_mut_ptr(), size, self.keys, by_key(score_gradients), query_block, first > 0, scratch);
                multiply_block(value_sums.as_mut_ptr(), size, self.keys, by_key(scores), gradient_block, first > 0, scratch);
            }
        }
        if let Some(rope) = self.rope {
            turn(key_sums, rope, 0, size, -1.0);
        }
        // SAFETY: `dk` and `dv` have a row for each key.
        unsafe {
            dk.write(key_sums, size);
            dv.write(value_sums, size);
        }
    }
}
