//! The innermost products: six rows times one panel of columns, held in registers.
//!
//! Left operands are read where they lie, either along rows (the six rows `stride` apart) or along columns (the six values
//! of a column side by side, columns `stride` apart). Right operands are packed (see `pack.rs`).

#![allow(clippy::too_many_arguments, reason = "a tile has three operands, each with its layout")]

/// Rows of a tile. Six rows of two vectors leave room in 16 registers for one row of the panel and one broadcast value.
pub(super) const ROWS: usize = 6;

/// Columns of a vector: of a panel of several vectors, a tile can leave out the last ones.
pub(super) const LANES: usize = 16;

/// The widest panel of any kernel.
pub(super) const MAX_WIDTH: usize = 64;

/// The sum of products for one tile, in a form that all processors run.
///
/// # Safety
///
/// - along rows, `a + r·stride + i` can be read for `r < rows` and `i < k`; along columns `a + i·stride + r` for `r < 6`, `i < k`;
/// - `b` can be read for `16·k` values; `c + r·c_stride + j` can be written, and read if `accumulate`, for `r < 6`, `j < 16`;
/// - `1 <= rows <= 6`.
pub(super) unsafe fn portable<const COLUMNS: bool>(
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
    // On ARM a fused product is one instruction; without FMA elsewhere it would be a call.
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
pub(super) mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };

    use super::ROWS;

    /// Where the six rows of a left operand begin, and how far apart their values along `k` are.
    ///
    /// # Safety
    ///
    /// As [`super::portable`].
    #[inline(always)]
    unsafe fn row_pointers<T, const COLUMNS: bool>(a: *const T, stride: usize, rows: usize) -> ([*const T; ROWS], usize) {
        let mut pointers = [a; ROWS];
        for (r, pointer) in pointers.iter_mut().enumerate() {
            // Rows that the tile has too many read the last one again; their sums are not used.
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
    pub(in super::super) unsafe fn avx2<const COLUMNS: bool>(
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
            let (a, step) = row_pointers::<f32, COLUMNS>(a, stride, rows);
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

    /// [`super::portable`] with AVX-512: the first `16·VECTORS` columns of panels of 64.
    ///
    /// # Safety
    ///
    /// As [`super::portable`] with `16·VECTORS` columns of a panel of 64, and the processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn avx512<const COLUMNS: bool, const VECTORS: usize>(
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
            let (a, step) = row_pointers::<f32, COLUMNS>(a, stride, rows);
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            for i in 0..k {
                let b = b.add(i * 64);
                let mut values = [_mm512_setzero_ps(); VECTORS];
                for (j, values) in values.iter_mut().enumerate() {
                    *values = _mm512_loadu_ps(b.add(16 * j));
                }
                for r in 0..ROWS {
                    let x = _mm512_set1_ps(*a[r].add(i * step));
                    for j in 0..VECTORS {
                        sums[r][j] = _mm512_fmadd_ps(x, values[j], sums[r][j]);
                    }
                }
            }
            store(&sums, c, c_stride, accumulate);
        }
    }

    /// The sum of products of pairs of bfloat16: `a` along rows and `b` hold two values of `k` in each word, panels of 64, of
    /// which the first `16·VECTORS` columns are wanted.
    ///
    /// # Safety
    ///
    /// As [`avx512`] along rows, with `k` and strides counted in words, and the processor has AVX-512-BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(in super::super) unsafe fn avx512_bf16<const VECTORS: usize>(
        k: usize,
        a: *const u32,
        stride: usize,
        rows: usize,
        b: *const u32,
        c: *mut f32,
        c_stride: usize,
        accumulate: bool,
    ) {
        // SAFETY: all reads and writes are those that the function's contract allows.
        unsafe {
            let (a, _) = row_pointers::<u32, false>(a, stride, rows);
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            for i in 0..k {
                let b = b.add(i * 64);
                let mut words = [_mm512_setzero_si512(); VECTORS];
                for (j, words) in words.iter_mut().enumerate() {
                    *words = _mm512_loadu_si512(b.add(16 * j).cast());
                }
                for r in 0..ROWS {
                    let x = _mm512_set1_epi32((*a[r].add(i)).cast_signed());
                    for j in 0..VECTORS {
                        sums[r][j] = _mm512_dpbf16_ps(sums[r][j], halves(x), halves(words[j]));
                    }
                }
            }
            store(&sums, c, c_stride, accumulate);
        }
    }

    /// A register of 16 words as one of 32 values of bfloat16.
    #[inline(always)]
    fn halves(words: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes, of which all bits mean something.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
    }

    /// Writes or adds the sums of a tile.
    ///
    /// # Safety
    ///
    /// `c` as in [`super::portable`] with `16·VECTORS` for 16.
    #[target_feature(enable = "avx512f")]
    unsafe fn store<const VECTORS: usize>(sums: &[[__m512; VECTORS]; ROWS], c: *mut f32, c_stride: usize, accumulate: bool) {
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
