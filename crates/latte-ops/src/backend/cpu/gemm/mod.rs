//! Matmuls, spread over all threads or on one.
//!
//! The left operand is read in place. The right operand is packed once into panels (a weight once per run, see
//! [`crate::PackedWeightCache`]). The operations that follow the matmul (bias, GELU, gate and residual) are applied to each block
//! of the result while it is in the cache.

mod all_threads;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod tile;

use std::ops::Range;

pub(crate) use all_threads::{in_turn, multiply, multiply_to_pairs};
pub(crate) use pack::{Packed, round_row, words};

use crate::backend::cpu::buffer::Shared;
use crate::backend::cpu::vectorised::vectorised;
use crate::{InstructionSet, Precision};
use pack::Left;
use tile::{LANES, MAX_WIDTH, ROWS};

/// A matrix in a slice: element `(i, j)` lies at `i · row + j · column`. One of the two is 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'s> {
    pub(crate) values: &'s [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'s> Matrix<'s> {
    /// Rows with a distance of `stride` values.
    pub(crate) fn rows(values: &'s [f32], stride: usize) -> Self {
        Self { values, row: stride, column: 1 }
    }

    /// The transposed matrix: the same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// The matrix from row `row` on.
    pub(crate) fn rows_from(&self, row: usize) -> Self {
        Self { values: &self.values[(row * self.row).min(self.values.len())..], ..*self }
    }

    /// The matrix from column `column` on.
    fn columns_from(&self, column: usize) -> Self {
        Self { values: &self.values[(column * self.column).min(self.values.len())..], ..*self }
    }

    /// Whether all elements of an `rows × columns` matrix lie in the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// A left operand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operand<'s> {
    /// Values; kernels that round operands to bfloat16 round them on the way.
    Values(Matrix<'s>),
    /// Rows of words of pairs, only for kernels of pairs.
    Pairs(Pairs<'s>),
}

impl<'s> From<Matrix<'s>> for Operand<'s> {
    fn from(matrix: Matrix<'s>) -> Self {
        Self::Values(matrix)
    }
}

impl<'s> From<Pairs<'s>> for Operand<'s> {
    fn from(pairs: Pairs<'s>) -> Self {
        Self::Pairs(pairs)
    }
}

impl Operand<'_> {
    /// The operand from row `row` on.
    pub(crate) fn rows_from(&self, row: usize) -> Self {
        match self {
            Self::Values(matrix) => Self::Values(matrix.rows_from(row)),
            Self::Pairs(pairs) => Self::Pairs(pairs.rows_from(row)),
        }
    }

    /// Whether all elements of a `rows × columns` matrix lie in the slice, in the form in which the kernel reads them.
    fn holds(&self, kernel: Kernel, rows: usize, columns: usize) -> bool {
        match self {
            Self::Values(matrix) => matrix.holds(rows, columns),
            Self::Pairs(pairs) => kernel.pairs() && pairs.holds(rows, columns),
        }
    }
}

/// Rows of words that hold two bfloat16 values each, with a distance of `stride` words. If the number of values is odd, the second
/// half of the last word is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs<'s> {
    pub(crate) words: &'s [u32],
    pub(crate) stride: usize,
}

impl Pairs<'_> {
    /// The rows from row `row` on.
    pub(crate) fn rows_from(&self, row: usize) -> Self {
        Self { words: &self.words[(row * self.stride).min(self.words.len())..], ..*self }
    }

    /// Word `word` of row `row`.
    fn at(&self, row: usize, word: usize) -> *const u32 {
        self.words[row * self.stride + word..].as_ptr()
    }

    /// Whether `rows` rows of `columns` values lie in the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || (rows - 1) * self.stride + columns.div_ceil(2) <= self.words.len()
    }
}

/// How matmuls are computed: with which instructions, and with which precision of operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    set: InstructionSet,
    precision: Precision,
}

impl Kernel {
    /// The best for `precision` on this processor.
    pub(crate) fn of(precision: Precision) -> Self {
        Self { set: InstructionSet::current(), precision }
    }

    /// The precision of the operands.
    pub(crate) fn precision(self) -> Precision {
        self.precision
    }

    /// Whether operands are words of two bfloat16 values.
    pub(crate) fn pairs(self) -> bool {
        self.precision == Precision::Bf16 && self.set == InstructionSet::Avx512Bf16
    }

    /// Whether operands are f32 values that are rounded to bfloat16.
    pub(crate) fn rounds(self) -> bool {
        self.precision == Precision::Bf16 && !self.pairs()
    }

    /// Columns of a panel.
    pub(crate) fn width(self) -> usize {
        match self.set {
            InstructionSet::Portable | InstructionSet::Avx2 => 16,
            InstructionSet::Avx512 | InstructionSet::Avx512Bf16 => 64,
        }
    }

    /// Whether tiles at the lower edge write only the rows that exist.
    fn writes_only_rows(self) -> bool {
        self.set >= InstructionSet::Avx512
    }

    /// The number of words along `k`.
    pub(crate) fn depth(self, k: usize) -> usize {
        if self.pairs() { k.div_ceil(2) } else { k }
    }

    /// The part of `k` that is summed before a tile is written to memory. A narrow panel of that depth stays in the L1 cache. A
    /// wide panel is read slowly enough for the L2 cache; there the cost is to load the sums again.
    pub(crate) fn depth_limit(self) -> usize {
        match (self.set, self.pairs()) {
            (InstructionSet::Portable | InstructionSet::Avx2, _) => 384,
            (_, false) => 1152,
            (_, true) => 2304,
        }
    }
}

/// The operation that is applied to each part of a row of the result as soon as its values are known.
pub(crate) trait Epilogue: Sync {
    /// Changes columns `columns` of row `row` in place.
    fn apply(&self, row: usize, columns: Range<usize>, values: &mut [f32]);
}

/// No epilogue: the matmul alone.
#[derive(Debug)]
pub(crate) struct Plain;

impl Epilogue for Plain {
    fn apply(&self, _: usize, _: Range<usize>, _: &mut [f32]) {}
}

vectorised! {
    fn add(values: &mut [f32], row: &[f32]) {
        for (value, row) in values.iter_mut().zip(row) {
            *value += row;
        }
    }
}

/// An epilogue that adds the same bias row to each row.
#[derive(Debug)]
pub(crate) struct Bias<'b>(pub(crate) &'b [f32]);

impl Epilogue for Bias<'_> {
    fn apply(&self, _: usize, columns: Range<usize>, values: &mut [f32]) {
        add(values, &self.0[columns]);
    }
}

/// Panels of a right operand.
#[derive(Debug, Clone, Copy)]
struct Right {
    words: *const u32,
    /// Words from one panel to the next.
    panel: usize,
}

/// All tiles of an `m × n` block, over `depth` words.
///
/// # Safety
///
/// `left` and `right` hold `m` rows and `n` columns of `depth` words as the kernel's tile reads them; `m` rows of `n` values,
/// `out_stride` apart, can be written (and read if `accumulate`), and nothing else touches them meanwhile.
unsafe fn tiles(
    kernel: Kernel,
    [m, depth, n]: [usize; 3],
    left: Left,
    right: Right,
    out: *mut f32,
    out_stride: usize,
    accumulate: bool,
) {
    let width = kernel.width();
    let mut edge = [0f32; ROWS * MAX_WIDTH];
    for (p, column) in (0..n).step_by(width).enumerate() {
        let columns = (n - column).min(width);
        for (s, row) in (0..m).step_by(ROWS).enumerate() {
            let rows = (m - row).min(ROWS);
            // SAFETY: strips and panels of the operands, by the function's contract. A tile at the edge is written to `edge`, which
            // holds a whole tile, and only the part inside the block is copied from there.
            unsafe {
                let (a, b) = (left.words.add(s * left.strip), right.words.add(p * right.panel));
                let target = out.add(row * out_stride + column);
                if columns.is_multiple_of(LANES) && (rows == ROWS || kernel.writes_only_rows()) {
                    tile::run(kernel, depth, a, left, [rows, columns], b, target, out_stride, accumulate);
                    continue;
                }
                tile::run(kernel, depth, a, left, [rows, columns], b, edge.as_mut_ptr(), width, false);
                for (r, sums) in edge.chunks_exact(width).take(rows).enumerate() {
                    for (j, &sum) in sums.iter().take(columns).enumerate() {
                        let value = target.add(r * out_stride + j);
                        *value = if accumulate { *value + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// Scratch memory in which a thread packs left operands.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<u32>);

/// `m` rows of `a · b`, written to or added to rows `out_stride` apart, on the calling thread.
///
/// # Safety
///
/// `m` rows of as many values as `b` has columns, `out_stride` apart from `out` on, can be written (and read if `accumulate`),
/// and nothing else touches them meanwhile.
///
/// # Panics
///
/// If `a` is too short.
pub(crate) unsafe fn multiply_block<'a>(
    out: *mut f32,
    out_stride: usize,
    m: usize,
    a: impl Into<Operand<'a>>,
    b: &Packed,
    accumulate: bool,
    scratch: &mut Scratch,
) {
    let (a, kernel, k, n) = (a.into(), b.kernel, b.k, b.n);
    assert!(a.holds(kernel, m, k), "a matrix of {m}×{k} that fits its slice");
    let left = match a {
        Operand::Pairs(pairs) => Left::rows(pairs.words.as_ptr(), pairs.stride),
        // A column matrix can be read in place if its last strip lies in the slice too.
        Operand::Values(a)
            if a.row == 1 && a.column != 1 && a.holds(m.next_multiple_of(ROWS), k) && !kernel.pairs() && !kernel.rounds() =>
        {
            Left::columns(a.values.as_ptr(), a.column)
        }
        Operand::Values(a) => pack::left(kernel, &a, 0..m, 0..k, &mut scratch.0),
    };
    let right = Right { words: b.as_ptr(), panel: b.panel_words() };
    // SAFETY: the operands hold `m` rows and `n` columns, and `out` is as the caller says.
    unsafe { tiles(kernel, [m, kernel.depth(k), n], left, right, out, out_stride, accumulate) };
}

/// Left operands that are already words of the kernel: lines of `rows` rows, with a distance of `stride` words from row to row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    /// Words from line to line.
    pub(crate) words: usize,
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

/// The matmul of the lines and the part `ks` of the depth of `b`, on the calling thread. The rows of each line, `b.n` values each,
/// are written `offset` values behind the line's pointer in `out`, or added to the values there.
///
/// # Safety
///
/// Behind each pointer of `out`, `offset` values and as many rows of `b.n` values as a line has can be written (and read if
/// `accumulate`), and nothing else touches those rows meanwhile.
///
/// # Panics
///
/// If there are too few `words`, or if `ks` is no part of the depth or does not begin at a whole word.
pub(crate) unsafe fn multiply_lines(
    out: &[Shared<f32>],
    offset: usize,
    words: &[u32],
    lines: Lines,
    b: &Packed,
    ks: Range<usize>,
    accumulate: bool,
) {
    let (kernel, n, width) = (b.kernel, b.n, b.kernel.width());
    let depth = kernel.depth(ks.len());
    assert!(ks.end <= b.k && (ks.start.is_multiple_of(2) || !kernel.pairs()), "a part of the depth");
    if out.is_empty() || lines.rows == 0 || depth == 0 {
        return;
    }
    let last = (out.len() - 1) * lines.words + (lines.rows - 1) * lines.stride + depth;
    assert!(last <= words.len(), "lines that lie among the words");
    let panel = b.panel_words();
    // All lines for one panel, then the next panel, so that a panel stays in the L1 cache even if the lines are short.
    for (p, column) in (0..n).step_by(width).enumerate() {
        let columns = (n - column).min(width);
        for (line, out) in out.iter().enumerate() {
            let words = words[line * lines.words..].as_ptr();
            let left = Left::rows(words, lines.stride);
            // SAFETY: the words hold all rows of the line by the assertion, the panel has the whole depth, and `out` is as the
            // caller says.
            unsafe {
                let right = Right { words: b.as_ptr().add(p * panel + kernel.depth(ks.start) * width), panel };
                tiles(kernel, [lines.rows, depth, columns], left, right, out.get().add(offset + column), n, accumulate);
            }
        }
    }
}

/// A part `ks` of the depth of `a · b`, for the columns `columns`, written to or added to rows with a distance of `out_stride`, on
/// the calling thread. `a` is `m` rows of `ks.len()` values with a distance of `stride`; the kernel of `b` must be one for f32.
///
/// # Safety
///
/// `m` rows of `columns.len()` values, `out_stride` apart from `out` on, can be written (and read if `accumulate`), and nothing
/// else touches them meanwhile.
///
/// # Panics
///
/// If `a` is too short, or if `columns` or `ks` is no part of `b`, or `columns` does not begin at a whole panel.
#[allow(clippy::too_many_arguments, reason = "a matmul has three operands, each with its layout")]
pub(crate) unsafe fn multiply_part(
    out: *mut f32,
    out_stride: usize,
    m: usize,
    a: &[f32],
    stride: usize,
    b: &Packed,
    columns: Range<usize>,
    ks: Range<usize>,
    accumulate: bool,
) {
    let (kernel, width) = (b.kernel, b.kernel.width());
    assert!(kernel.precision == Precision::F32, "a kernel for f32");
    assert!(columns.end <= b.n && columns.start.is_multiple_of(width) && ks.end <= b.k, "a part of the right operand");
    assert!(Matrix::rows(a, stride).holds(m, ks.len()), "rows that lie in their slice");
    let left = Left::rows(a.as_ptr().cast(), stride);
    // SAFETY: the operands hold `m` rows and the columns, by the assertions, and `out` is as the caller says.
    unsafe {
        let panel = b.as_ptr().add(columns.start / width * b.panel_words());
        let right = Right { words: panel.add(ks.start * width), panel: b.panel_words() };
        tiles(kernel, [m, ks.len(), columns.len()], left, right, out, out_stride, accumulate);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;

    /// Values between −1 and 1 whose sums are exact in f32.
    fn values(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % 65) as f32 / 32.0 - 1.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_are_exact_where_no_sum_rounds(
            (m, k, n) in (1usize..120, 1usize..40, 1usize..150),
            (deep, left_transposed, right_transposed, bf16) in (0usize..4, any::<bool>(), any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            // Some are deeper than any part of the depth.
            let k = if deep == 0 { k + 800 } else { k };
            let (a, b) = (values(m * k, seed), values(k * n, seed ^ 7));
            let a = if left_transposed { Matrix::rows(&a, m).transposed() } else { Matrix::rows(&a, k) };
            let b = if right_transposed { Matrix::rows(&b, k).transposed() } else { Matrix::rows(&b, n) };
            let at = |x: &Matrix<'_>, i: usize, j: usize| x.values[i * x.row + j * x.column];
            let mut expected = vec![0f32; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] = (0..k).map(|l| at(&a, i, l) * at(&b, l, j)).sum::<f32>() + j as f32;
                }
            }
            let bias: Vec<f32> = (0..n).map(|j| j as f32).collect();
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            for result in with_each(|_| {
                let packed = Packed::new(Kernel::of(precision), b, k, n);
                let all = multiply(m, a, &packed, &Bias(&bias));
                // The same on one thread, added to the values in rows with padding between them.
                let (stride, mut packed) = (n + 3, Packed::empty(Kernel::of(precision)));
                packed.pack(b, k, n);
                let mut one = vec![1f32; m * stride];
                // SAFETY: `one` has m rows of n values, n + 3 apart.
                unsafe { multiply_block(one.as_mut_ptr(), stride, m, a, &packed, true, &mut Scratch::default()) };
                (all, one)
            }) {
                prop_assert_eq!(&result.0, &expected);
                for (i, row) in result.1.chunks(n + 3).enumerate() {
                    for (j, &value) in row.iter().enumerate() {
                        prop_assert_eq!(value, if j < n { expected[i * n + j] - j as f32 + 1.0 } else { 1.0 });
                    }
                }
            }
        }
    }

    #[test]
    fn operands_are_rounded_to_bfloat16() {
        let rounded = |value| f32::from_bits(u32::from(pack::bf16_bits(value)) << 16);
        // bfloat16 has 8 bits of precision: the numbers next to 1 are 1/128 apart, and ties go to the even one.
        assert_eq!(
            [1.0 + 1.0 / 256.0, 1.0 + 1.1 / 256.0, 1.0 + 3.0 / 256.0].map(rounded),
            [1.0, 1.0 + 2.0 / 256.0, 1.0 + 4.0 / 256.0]
        );
        assert_eq!([0.0, -2.5, f32::INFINITY, 3.4e38].map(rounded), [0.0, -2.5, f32::INFINITY, f32::INFINITY]);
        assert!(f32::from_bits(u32::from(pack::bf16_bits(f32::from_bits(0x7F80_0001))) << 16).is_nan());
        assert_eq!(pack::bf16_bits(f32::NEG_INFINITY), 0xFF80);
        for result in with_each(|_| {
            // On both sides of the matmul.
            let x = [1.0 + 1.0 / 256.0; 7];
            multiply(1, Matrix::rows(&x, 7), &Packed::new(Kernel::of(Precision::Bf16), Matrix::rows(&x, 1), 7, 1), &Plain)
        }) {
            assert_eq!(result, [7.0]);
        }
    }

    #[test]
    #[should_panic(expected = "fits its slice")]
    fn a_slice_that_is_too_short_is_noticed() {
        let packed = Packed::new(Kernel::of(Precision::F32), Matrix::rows(&[0.0; 6], 2), 3, 2);
        multiply(2, Matrix::rows(&[0.0; 5], 3), &packed, &Plain);
    }
}
