//! Operands in the order in which tiles read them.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::pack_avx512;
use super::tile::ROWS;
use super::{Kernel, Matrix, Operand};
use crate::backend::cpu::vectorised::vectorised;

/// One cache line of packed words.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read as words through a pointer")] [u32; 16]);

/// A right operand `[k, n]` in panels that are as wide as a tile: panel by panel, and in each panel all columns of one row (or, for
/// pairs of bfloat16, of two rows) side by side. Columns that pad the last panel are 0.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) kernel: Kernel,
    pub(super) k: usize,
    pub(super) n: usize,
    lines: Vec<Line>,
}

impl Packed {
    /// Packs on all threads.
    pub(crate) fn new(kernel: Kernel, matrix: Matrix<'_>, k: usize, n: usize) -> Self {
        let mut packed = Self { kernel, k, n, lines: Vec::new() };
        packed.fill(matrix, k, n, true);
        packed
    }

    /// An empty buffer for [`Packed::pack`].
    pub(crate) fn empty(kernel: Kernel) -> Self {
        Self { kernel, k: 0, n: 0, lines: Vec::new() }
    }

    /// Packs `k` rows of `n` values into the same buffer, on the calling thread.
    ///
    /// # Panics
    ///
    /// If there are too few rows; for pairs, also if the kernel is not one of pairs or `n` is odd.
    pub(crate) fn pack<'a>(&mut self, rows: impl Into<Operand<'a>>, k: usize, n: usize) {
        match rows.into() {
            Operand::Values(matrix) => self.fill(matrix, k, n, false),
            #[cfg(target_arch = "x86_64")]
            Operand::Pairs(pairs) => {
                let fits = n.is_multiple_of(2) && pairs.holds(k, n);
                assert!(self.kernel.pairs() && fits, "{k} rows of {n} values that fit their slice");
                self.fill_panels(k, n, false, |panel, first, columns| {
                    let panel = panel.as_mut_ptr();
                    // SAFETY: only processors with AVX-512-BF16 have kernels of pairs; the slice holds the columns, and the panel
                    // is 64 wide and has all words of `k`.
                    unsafe { pack_avx512::interleave_pairs(panel, pairs.at(0, first / 2), pairs.stride, columns, k) };
                });
            }
            #[cfg(not(target_arch = "x86_64"))]
            Operand::Pairs(_) => panic!("a kernel of pairs"),
        }
    }

    /// [`Packed::pack`] for the transpose of `n` rows of `k` values.
    ///
    /// # Panics
    ///
    /// As [`Packed::pack`], but `k` may be odd.
    pub(crate) fn pack_transposed<'a>(&mut self, rows: impl Into<Operand<'a>>, k: usize, n: usize) {
        match rows.into() {
            Operand::Values(matrix) => self.fill(matrix.transposed(), k, n, false),
            #[cfg(target_arch = "x86_64")]
            Operand::Pairs(pairs) => {
                assert!(self.kernel.pairs() && pairs.holds(n, k), "{n} rows of {k} values that fit their slice");
                self.fill_panels(k, n, false, |panel, first, columns| {
                    let panel = panel.as_mut_ptr();
                    // SAFETY: as in `pack`, of rows.
                    unsafe { pack_avx512::pairs_to_panel(panel, pairs.at(first, 0), pairs.stride, columns, k.div_ceil(2)) };
                });
            }
            #[cfg(not(target_arch = "x86_64"))]
            Operand::Pairs(_) => panic!("a kernel of pairs"),
        }
    }

    fn fill(&mut self, matrix: Matrix<'_>, k: usize, n: usize, all_threads: bool) {
        assert!(matrix.holds(k, n), "a {k}×{n} matrix that fits its slice");
        let kernel = self.kernel;
        self.fill_panels(k, n, all_threads, |panel, first, columns| {
            pack_panel(panel, kernel, &matrix.columns_from(first), k, columns);
        });
    }

    /// Calls `pack` with the words of each panel, its first column and its number of columns.
    fn fill_panels(&mut self, k: usize, n: usize, all_threads: bool, pack: impl Fn(&mut [u32], usize, usize) + Sync) {
        let width = self.kernel.width();
        (self.k, self.n) = (k, n);
        let panel_lines = self.panel_words() / 16;
        self.lines.resize(panel_lines * n.div_ceil(width), Line([0; 16]));
        let pack = |(index, lines): (usize, &mut [Line])| {
            // SAFETY: a line is 16 words without padding, so the lines are a slice of so many words.
            let words = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u32>(), lines.len() * 16) };
            let first = index * width;
            pack(words, first, (n - first).min(width));
        };
        if panel_lines == 0 {
            return;
        }
        if all_threads {
            self.lines.par_chunks_mut(panel_lines).enumerate().for_each(pack);
        } else {
            self.lines.chunks_mut(panel_lines).enumerate().for_each(pack);
        }
    }

    /// Words of one panel.
    pub(super) fn panel_words(&self) -> usize {
        self.kernel.depth(self.k) * self.kernel.width()
    }

    pub(super) fn as_ptr(&self) -> *const u32 {
        self.lines.as_ptr().cast()
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

/// Rounds to bfloat16, to nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    // Without this bit, a NaN with only low bits set would become an infinity.
    let nan = (bits >> 16) | 0x40;
    (if value.is_nan() { nan } else { rounded }) as u16
}

/// Copies values rounded as the kernel's matmuls read them.
#[inline(always)]
fn operands<'w>(rounds: bool, words: impl IntoIterator<Item = &'w mut u32>, values: &[f32]) {
    if rounds {
        for (word, &value) in words.into_iter().zip(values) {
            *word = u32::from(bf16_bits(value)) << 16;
        }
    } else {
        for (word, &value) in words.into_iter().zip(values) {
            *word = value.to_bits();
        }
    }
}

/// Writes values as the words that the kernel's matmuls read; if their number is odd, the second half of the last word is 0.
#[inline(always)]
pub(crate) fn words(kernel: Kernel, out: &mut [u32], values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if kernel.pairs() {
        let depth = values.len().div_ceil(2);
        // SAFETY: only processors with AVX-512-BF16 have kernels of pairs; there are enough words.
        unsafe { pack_avx512::pair_words(&mut out[..depth], values) };
        return;
    }
    operands(kernel.rounds(), out, values);
}

/// Rounds values to bfloat16 in the same way as the matmuls of a kernel of pairs.
///
/// # Safety
///
/// As many bfloat16 values can be written, and the processor has the instructions of a kernel of pairs.
#[inline(always)]
pub(crate) unsafe fn round_row(out: *mut bf16, values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller says.
    unsafe {
        pack_avx512::round_row(out.cast(), values);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("kernels of pairs are of x86-64 only: {} values to {out:?}", values.len());
}

vectorised! {
/// One panel from the first `columns` columns of `matrix`.
fn pack_panel(panel: &mut [u32], kernel: Kernel, matrix: &Matrix<'_>, k: usize, columns: usize) {
    let (width, rounds) = (kernel.width(), kernel.rounds());
    if columns < width {
        panel.fill(0);
    }
    #[cfg(target_arch = "x86_64")]
    if kernel.pairs() {
        if matrix.column == 1 {
            for (i, words) in panel.chunks_exact_mut(width).enumerate() {
                let low = &matrix.values[2 * i * matrix.row..][..columns];
                let high = (2 * i + 1 < k).then(|| &matrix.values[(2 * i + 1) * matrix.row..][..columns]);
                // SAFETY: only processors with AVX-512-BF16 have kernels of pairs; both rows have `columns` values, and `words` has
                // at least as many words.
                unsafe { pack_avx512::interleave(words, low, high) };
            }
        } else {
            assert!(matrix.row == 1, "rows or columns side by side");
            assert!(matrix.holds(k, columns) && panel.len() >= kernel.depth(k) * width, "a panel that holds the columns");
            // SAFETY: as above; the panel is 64 wide.
            unsafe {
                pack_avx512::columns_to_panel(
                    panel.as_mut_ptr(),
                    matrix.values.as_ptr(),
                    matrix.column,
                    columns,
                    k,
                );
            }
        }
        return;
    }
    if matrix.column == 1 {
        for (i, words) in panel.chunks_exact_mut(width).enumerate() {
            operands(rounds, words, &matrix.values[i * matrix.row..][..columns]);
        }
    } else {
        assert!(matrix.row == 1, "rows or columns side by side");
        for j in 0..columns {
            operands(rounds, panel[j..].iter_mut().step_by(width), &matrix.values[j * matrix.column..][..k]);
        }
    }
}
}

/// A left operand as tiles read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) words: *const u32,
    /// Whether the six values of a column lie side by side.
    pub(super) by_columns: bool,
    /// Words from row to row, or from column to column.
    pub(super) stride: usize,
    /// Words from one strip of six rows to the next.
    pub(super) strip: usize,
}

impl Left {
    /// Rows of words of the kernel, `stride` words apart.
    pub(super) fn rows(words: *const u32, stride: usize) -> Self {
        Self { words, by_columns: false, stride, strip: ROWS * stride }
    }

    /// Columns of values in place, with a distance of `stride` values; only for kernels whose operands are plain f32. Tiles always
    /// read six rows: the caller has memory behind the last row.
    pub(super) fn columns(values: *const f32, stride: usize) -> Self {
        Self { words: values.cast(), by_columns: true, stride, strip: ROWS }
    }
}

vectorised! {
/// Rows `rows` and columns `ks` of `matrix` `[m, k]` for `kernel`: in place if the kernel can read them so, else copied to
/// `scratch`.
pub(super) fn left(kernel: Kernel, matrix: &Matrix<'_>, rows: Range<usize>, ks: Range<usize>, scratch: &mut Vec<u32>) -> Left {
    let (m, k, rounds) = (rows.len(), ks.len(), kernel.rounds());
    let depth = kernel.depth(k);
    if matrix.column == 1 {
        let start = rows.start * matrix.row + ks.start;
        if !kernel.pairs() && !rounds {
            return Left::rows(matrix.values[start..].as_ptr().cast(), matrix.row);
        }
        scratch.resize(m * depth, 0);
        for (r, words) in scratch.chunks_exact_mut(depth).enumerate() {
            self::words(kernel, words, &matrix.values[start + r * matrix.row..][..k]);
        }
        return Left::rows(scratch.as_ptr(), depth);
    }
    assert!(matrix.row == 1, "rows or columns side by side");
    #[cfg(target_arch = "x86_64")]
    if kernel.pairs() {
        scratch.resize(m * depth, 0);
        let first = &matrix.values[ks.start * matrix.column + rows.start..];
        assert!(k == 0 || (k - 1) * matrix.column + m <= first.len(), "columns that lie in the slice");
        // SAFETY: only processors with AVX-512-BF16 have kernels of pairs; k columns of m values lie in the slice, and m rows of
        // `depth` words in the scratch memory.
        unsafe { pack_avx512::columns_to_rows(scratch.as_mut_ptr(), first.as_ptr(), matrix.column, m, k) };
        return Left::rows(scratch.as_ptr(), depth);
    }
    let column = |i: usize| &matrix.values[(ks.start + i) * matrix.column + rows.start..][..m];
    // Strips of six rows, each column's six values side by side. Eight columns at a time, because a cache line of each column holds
    // values of several strips.
    const TOGETHER: usize = 8;
    let strip = ROWS * k;
    scratch.resize(m.div_ceil(ROWS) * strip, 0);
    for first in (0..k).step_by(TOGETHER) {
        for (s, row) in (0..m).step_by(ROWS).enumerate() {
            let words = &mut scratch[s * strip + first * ROWS..(s + 1) * strip];
            for (i, words) in (first..k.min(first + TOGETHER)).zip(words.chunks_exact_mut(ROWS)) {
                match column(i)[row..].first_chunk::<ROWS>() {
                    Some(values) => operands(rounds, words, values),
                    None => operands(rounds, words, &column(i)[row..]),
                }
            }
        }
    }
    Left { words: scratch.as_ptr(), by_columns: true, stride: ROWS, strip }
}
}
