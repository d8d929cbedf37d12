//! The innermost matmuls: six rows times one panel of columns, in registers.
//!
//! Left operands are read in place, either along rows (six rows with a distance of `stride`) or along columns (the six values of a
//! column side by side, columns with a distance of `stride`). Right operands are packed (see `pack.rs`).

#![allow(clippy::too_many_arguments, reason = "a tile has three operands, each with its layout")]

use super::{Kernel, Left};
use crate::InstructionSet;

/// Rows of a tile. Six rows of two vectors leave room in 16 registers for one row of the panel and one broadcast value.
pub(super) const ROWS: usize = 6;

/// Columns of a vector: a tile can skip the last vectors of a panel.
pub(super) const LANES: usize = 16;

/// The widest panel of any kernel.
pub(super) const MAX_WIDTH: usize = 64;

/// Computes `rows` rows and `columns` columns of one tile with the kernel's instructions.
///
/// # Safety
///
/// As [`portable`], for the kernel's width and words; a kernel with [`Kernel::writes_only_rows`] needs only `rows` rows.
#[inline(always)]
pub(super) unsafe fn run(
    kernel: Kernel,
    depth: usize,
    a: *const u32,
    left: Left,
    [rows, columns]: [usize; 2],
    b: *const u32,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    let stride = left.stride;
    // SAFETY: the contract of this function is that of the tiles; the instruction set in use is always one that the processor has.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if kernel.writes_only_rows() {
            // The last rows and the last panel may be almost empty: compute only the rows and vectors that are needed.
            let [r, v] = [rows - 1, columns.div_ceil(LANES) - 1];
            match (kernel.pairs(), left.by_columns) {
                (true, _) => x86::OF_PAIRS[r][v](depth, a, stride, b, c, c_stride, accumulate),
                (false, false) => x86::OF_ROWS[r][v](depth, a.cast(), stride, b.cast(), c, c_stride, accumulate),
                (false, true) => x86::OF_COLUMNS[r][v](depth, a.cast(), stride, b.cast(), c, c_stride, accumulate),
            }
            return;
        }
        match (kernel.set, left.by_columns) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, false) => {
                x86::avx2::<false>(depth, a.cast(), stride, rows, b.cast(), c, c_stride, accumulate);
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, true) => {
                x86::avx2::<true>(depth, a.cast(), stride, rows, b.cast(), c, c_stride, accumulate);
            }
            (_, false) => portable::<false>(depth, a.cast(), stride, rows, b.cast(), c, c_stride, accumulate),
            (_, true) => portable::<true>(depth, a.cast(), stride, rows, b.cast(), c, c_stride, accumulate),
        }
    }
}

/// The sum of products for one tile, in code that every processor runs.
///
/// # Safety
///
/// - along rows, `a + r·stride + i` can be read for `r < rows` and `i < k`; along columns `a + i·stride + r` for `r < 6`, `i < k`;
/// - `b` can be read for `16·k` values; `c + r·c_stride + j` can be written, and read if `accumulate`, for `r < 6`, `j < 16`;
/// - `1 <= rows <= 6`.
unsafe fn portable<const COLUMNS: bool>(
    k: usize,
    a: *const f32,
    stride: usize,
    rows: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    accumulate: bool,
) {
    const WIDTH: usize = 16;
    // On ARM a fused multiply-add is one instruction; on other processors without FMA it would be a function call.
    #[inline(always)]
    fn product_sum(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }
    let mut sums = [[0f32; WIDTH]; ROWS];
    for i in 0..k {
        // SAFETY: within the panel by the function's contract.
        let b: &[f32; WIDTH] = unsafe { &*b.add(i * WIDTH).cast() };
        for (r, sums) in sums.iter_mut().enumerate() {
            let offset = if COLUMNS { i * stride + r } else { r.min(rows - 1) * stride + i };
            // SAFETY: within the left operand by the function's contract.
            let x = unsafe { *a.add(offset) };
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = product_sum(x, *b, *sum);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: the tile can be read and written by the function's contract, and nothing else refers to it meanwhile.
        let c: &mut [f32; WIDTH] = unsafe { &mut *c.add(r * c_stride).cast() };
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if accumulate { *c + sum } else { *sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };

    use super::ROWS;

    /// The pointers to `R` rows of a left operand that has `rows` rows, and the distance of their values along `k`.
    ///
    /// # Safety
    ///
    /// As [`super::portable`].
    #[inline(always)]
    unsafe fn row_pointers<T, const COLUMNS: bool, const R: usize>(
        a: *const T,
        stride: usize,
        rows: usize,
    ) -> ([*const T; R], usize) {
        let mut pointers = [a; R];
        for (r, pointer) in pointers.iter_mut().enumerate() {
            // Surplus rows of the tile read the last row again; their sums are not used.
            // SAFETY: inside the left operand by the function's contract.
            *pointer = unsafe { a.add(if COLUMNS { r } else { r.min(rows - 1) * stride }) };
        }
        (pointers, if COLUMNS { stride } else { 1 })
    }

    /// [`super::portable`] with AVX2 and FMA.
    ///
    /// # Safety
    ///
    /// As [`super::portable`], and the processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<const COLUMNS: bool>(
        k: usize,
        a: *const f32,
        stride: usize,
        rows: usize,
        b: *const f32,
        c: *mut f32,
        c_stride: usize,
        accumulate: bool,
    ) {
        // SAFETY: all reads and writes are those that the function's contract allows.
        unsafe {
            let (a, step) = row_pointers::<f32, COLUMNS, ROWS>(a, stride, rows);
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for i in 0..k {
                let (b0, b1) = (_mm256_loadu_ps(b.add(i * 16)), _mm256_loadu_ps(b.add(i * 16 + 8)));
                for r in 0..ROWS {
                    let x = _mm256_broadcast_ss(&*a[r].add(i * step));
                    sums[r][0] = _mm256_fmadd_ps(x, b0, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(x, b1, sums[r][1]);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    let c = c.add(r * c_stride + 8 * j);
                    _mm256_storeu_ps(c, if accumulate { _mm256_add_ps(_mm256_loadu_ps(c), sum) } else { sum });
                }
            }
        }
    }

    /// A tile function for one number of rows and vectors.
    type Tile<T> = unsafe fn(usize, *const T, usize, *const T, *mut f32, usize, bool);

    /// The tile functions for each number of rows from 1 and of vectors from 1.
    macro_rules! vectors {
        ($rows:literal, $tile:ident $(, $by_columns:literal)?) => {
            [
                $tile::<$($by_columns,)? $rows, 1>,
                $tile::<$($by_columns,)? $rows, 2>,
                $tile::<$($by_columns,)? $rows, 3>,
                $tile::<$($by_columns,)? $rows, 4>,
            ]
        };
    }
    macro_rules! sizes {
        ($($tile:tt)*) => {
            [
                vectors!(1, $($tile)*),
                vectors!(2, $($tile)*),
                vectors!(3, $($tile)*),
                vectors!(4, $($tile)*),
                vectors!(5, $($tile)*),
                vectors!(6, $($tile)*),
            ]
        };
    }
    pub(super) const OF_ROWS: [[Tile<f32>; 4]; ROWS] = sizes!(avx512, false);
    pub(super) const OF_COLUMNS: [[Tile<f32>; 4]; ROWS] = sizes!(avx512, true);
    pub(super) const OF_PAIRS: [[Tile<u32>; 4]; ROWS] = sizes!(avx512_bf16);

    /// [`super::portable`] with AVX-512, for `R` rows and the first `V` vectors of panels of 64.
    ///
    /// # Safety
    ///
    /// As [`super::portable`] with `R` for 6 and for `rows`, 64 for 16 in `b` and 16·V in `c`, `V <= 4`, and the processor has
    /// AVX-512F.
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const COLUMNS: bool, const R: usize, const V: usize>(
        k: usize,
        a: *const f32,
        stride: usize,
        b: *const f32,
        c: *mut f32,
        c_stride: usize,
        accumulate: bool,
    ) {
        // SAFETY: all reads and writes are those that the function's contract allows.
        unsafe {
            let (a, step) = row_pointers::<f32, COLUMNS, R>(a, stride, R);
            fetch::<R, V>(c, c_stride);
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for i in 0..k {
                let b = b.add(i * 64);
                let mut words = [_mm512_setzero_ps(); V];
                for (j, words) in words.iter_mut().enumerate() {
                    *words = _mm512_loadu_ps(b.add(16 * j));
                }
                for r in 0..R {
                    let x = _mm512_set1_ps(*a[r].add(i * step));
                    for j in 0..V {
                        sums[r][j] = _mm512_fmadd_ps(x, words[j], sums[r][j]);
                    }
                }
            }
            store(&sums, c, c_stride, accumulate);
        }
    }

    /// The sum of products of pairs of bfloat16: `a`, along rows, and `b` hold two values of `k` in each word; for `R` rows and the
    /// first `V` vectors of panels of 64.
    ///
    /// # Safety
    ///
    /// As [`avx512`] along rows, with `k` and strides counted in words, and the processor has AVX-512-BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn avx512_bf16<const R: usize, const V: usize>(
        k: usize,
        a: *const u32,
        stride: usize,
        b: *const u32,
        c: *mut f32,
        c_stride: usize,
        accumulate: bool,
    ) {
        // SAFETY: all reads and writes are those that the function's contract allows.
        unsafe {
            let (a, _) = row_pointers::<u32, false, R>(a, stride, R);
            fetch::<R, V>(c, c_stride);
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for i in 0..k {
                let b = b.add(i * 64);
                let mut words = [_mm512_setzero_si512(); V];
                for (j, words) in words.iter_mut().enumerate() {
                    *words = _mm512_loadu_si512(b.add(16 * j).cast());
                }
                for r in 0..R {
                    let x = _mm512_set1_epi32((*a[r].add(i)).cast_signed());
                    for j in 0..V {
                        sums[r][j] = _mm512_dpbf16_ps(sums[r][j], halves(x), halves(words[j]));
                    }
                }
            }
            store(&sums, c, c_stride, accumulate);
        }
    }

    /// A register of 16 words as one of 32 bfloat16 values.
    #[inline(always)]
    fn halves(words: __m512i) -> __m512bh {
        // SAFETY: both types are 64 bytes, and every bit pattern is valid.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
    }

    /// Prefetches the memory of a tile long before its sums are known: the rows are too far apart for the hardware prefetcher.
    #[inline(always)]
    fn fetch<const R: usize, const V: usize>(c: *const f32, c_stride: usize) {
        for r in 0..R {
            for j in 0..V {
                // SAFETY: a prefetch reads nothing and is allowed for any address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(r * c_stride + 16 * j).cast()) };
            }
        }
    }

    /// Writes the sums of a tile, or adds them.
    ///
    /// # Safety
    ///
    /// `c` as in [`super::portable`] with `R` for 6 and 16·V for 16.
    #[target_feature(enable = "avx512f")]
    unsafe fn store<const R: usize, const V: usize>(sums: &[[__m512; V]; R], c: *mut f32, c_stride: usize, accumulate: bool) {
        for (r, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                // SAFETY: inside the tile by the function's contract.
                unsafe {
                    let c = c.add(r * c_stride + 16 * j);
                    _mm512_storeu_ps(c, if accumulate { _mm512_add_ps(_mm512_loadu_ps(c), sum) } else { sum });
                }
            }
        }
    }
}
