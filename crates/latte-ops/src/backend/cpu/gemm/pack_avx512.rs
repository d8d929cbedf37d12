//! Packing with AVX-512: one instruction converts values to pairs of bfloat16, and matrices are transposed in registers.
//!
//! The results equal those of `pack.rs` bit for bit, except that numbers below 2⁻¹²⁶ become 0, which the matmuls treat as 0 in any
//! case.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm256_maskz_loadu_epi16, _mm256_setzero_si256, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_mask_storeu_epi32, _mm512_maskz_loadu_epi32,
    _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_permutexvar_epi16, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::backend::cpu::avx512::{LANES, mask};

/// Columns of a panel.
const WIDTH: usize = 64;

/// Up to 16 words of pairs from `len` contiguous values; the words behind them are 0.
///
/// # Safety
///
/// `len` values can be read, and the processor has AVX-512-BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pairs(values: *const f32, len: usize) -> __m512i {
    // SAFETY: the masks leave out memory behind the values; both registers are 64 bytes, and every bit pattern is valid.
    unsafe {
        let low = _mm512_maskz_loadu_ps(mask(len), values);
        let high = match len.saturating_sub(LANES) {
            0 => _mm512_setzero_ps(),
            rest => _mm512_maskz_loadu_ps(mask(rest), values.add(LANES)),
        };
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Up to 16 words of pairs: the lower halves from `low`, the upper halves from `high` (0 if there is none); words from `len` on are
/// 0.
///
/// # Safety
///
/// `len` values of each can be read, and the processor has AVX-512-BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn interleaved(low: *const f32, high: Option<*const f32>, len: usize) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * LANES) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: as in `pairs`; `ORDER` is 64 bytes.
    unsafe {
        let low = _mm512_maskz_loadu_ps(mask(len), low);
        let high = high.map_or(_mm512_setzero_ps(), |high| _mm512_maskz_loadu_ps(mask(len), high));
        let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_permutexvar_epi16(_mm512_loadu_si512(ORDER.as_ptr().cast()), halves)
    }
}

/// The transpose of 16 rows of 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let mut quads = *rows;
    for g in 0..4 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        quads[4 * g] = _mm512_unpacklo_epi64(ab, cd);
        quads[4 * g + 1] = _mm512_unpackhi_epi64(ab, cd);
        quads[4 * g + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        quads[4 * g + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // Quarter `q` of `quads[4g + c]` holds rows 4g to 4g + 3 of column 4q + c.
    let mut columns = *rows;
    for c in 0..4 {
        let [a, b, d, e] = [quads[c], quads[4 + c], quads[8 + c], quads[12 + c]];
        let (even, even_rest) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(d, e));
        let (odd, odd_rest) = (_mm512_shuffle_i32x4::<0xDD>(a, b), _mm512_shuffle_i32x4::<0xDD>(d, e));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even, even_rest);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd, odd_rest);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xDD>(even, even_rest);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xDD>(odd, odd_rest);
    }
    columns
}

/// Writes contiguous values as words of pairs.
///
/// # Safety
///
/// `out` holds half as many words as there are values, rounded up, and the processor has AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pair_words(out: &mut [u32], values: &[f32]) {
    // SAFETY: the words hold as many halves as there are values; if that number is odd, the last half is written as 0.
    unsafe { round(out.as_mut_ptr().cast(), values, values.len().next_multiple_of(2)) };
}

/// Writes contiguous values rounded to bfloat16.
///
/// # Safety
///
/// As many bfloat16 values can be written to `out`, and the processor has AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn round_row(out: *mut i16, values: &[f32]) {
    // SAFETY: the function's own contract.
    unsafe { round(out, values, values.len()) };
}

/// [`round_row`] that writes `len` values: at most one more than `values` has, and that one is 0.
///
/// # Safety
///
/// `len` values can be written, and the processor has AVX-512-BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn round(out: *mut i16, values: &[f32], len: usize) {
    let (whole, rest) = values.as_chunks::<{ 2 * LANES }>();
    for (i, values) in whole.iter().enumerate() {
        // SAFETY: 32 values are two registers of f32 and one of bfloat16, and every bit pattern is valid.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values[LANES..].as_ptr()));
            let words = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(out.add(i * 2 * LANES).cast(), words);
        }
    }
    if !rest.is_empty() {
        let first = values.len() - rest.len();
        // SAFETY: the mask leaves out memory behind the last value.
        unsafe {
            let words = pairs(rest.as_ptr(), rest.len());
            _mm512_mask_storeu_epi16(out.add(first), u32::MAX >> (2 * LANES - (len - first)), words);
        }
    }
}

/// Interleaves two rows into words of pairs; the second row is missing if the number of rows is odd.
///
/// # Safety
///
/// `out` holds as many words as `low` has values, `high` has as many values, and the processor has AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn interleave(out: &mut [u32], low: &[f32], high: Option<&[f32]>) {
    for first in (0..low.len()).step_by(LANES) {
        let len = (low.len() - first).min(LANES);
        // SAFETY: `len` values and words lie behind `first`.
        unsafe {
            let words = interleaved(low.as_ptr().add(first), high.map(|high| high.as_ptr().add(first)), len);
            _mm512_mask_storeu_epi32(out.as_mut_ptr().add(first).cast(), mask(len), words);
        }
    }
}

/// Packs columns of `k` values, with a distance of `stride`, into the panel of words of pairs that tiles read. If the panel has
/// more columns, the next ones up to a multiple of 16 become 0 and the others are unchanged.
///
/// # Safety
///
/// `columns` columns, at most 64, can be read; the panel holds 64 words for each word of `k`; the processor has AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn columns_to_panel(panel: *mut u32, values: *const f32, stride: usize, columns: usize, k: usize) {
    let depth = k.div_ceil(2);
    for column in (0..columns).step_by(LANES) {
        for word in (0..depth).step_by(LANES) {
            // SAFETY: all columns and words are those of the contract.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); LANES];
                for (j, row) in rows.iter_mut().enumerate().take(columns - column) {
                    *row = pairs(values.add((column + j) * stride + 2 * word), k - 2 * word);
                }
                for (i, words) in transposed(&rows).into_iter().enumerate().take(depth - word) {
                    _mm512_storeu_si512(panel.add((word + i) * WIDTH + column).cast(), words);
                }
            }
        }
    }
}

/// [`columns_to_panel`] for columns that already are words of pairs, with a distance of `stride` words; reads `depth` words of
/// each.
///
/// # Safety
///
/// As [`columns_to_panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pairs_to_panel(panel: *mut u32, words: *const u32, stride: usize, columns: usize, depth: usize) {
    for column in (0..columns).step_by(LANES) {
        for word in (0..depth).step_by(LANES) {
            // SAFETY: all columns and words are those of the contract; the mask leaves out words behind the last one.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); LANES];
                for (j, row) in rows.iter_mut().enumerate().take(columns - column) {
                    let words = words.add((column + j) * stride + word);
                    *row = _mm512_maskz_loadu_epi32(mask(depth - word), words.cast());
                }
                for (i, words) in transposed(&rows).into_iter().enumerate().take(depth - word) {
                    _mm512_storeu_si512(panel.add((word + i) * WIDTH + column).cast(), words);
                }
            }
        }
    }
}

/// Packs `k` rows of `columns` values, which are words of pairs along the row with a distance of `stride` words: two rows become
/// one row of words of pairs along the column. If the panel has more columns, the next ones up to a multiple of 16 become 0.
///
/// # Safety
///
/// `k` rows of `columns` values, an even number, can be read; the panel holds 64 words for each two rows; the processor has
/// AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn interleave_pairs(panel: *mut u32, words: *const u32, stride: usize, columns: usize, k: usize) {
    for row in (0..k).step_by(2) {
        for column in (0..columns).step_by(LANES) {
            let mask = mask(columns - column);
            // SAFETY: all rows and columns are those of the contract; the mask leaves out columns behind the last one.
            unsafe {
                let low = words.add(row * stride + column / 2);
                let high =
                    if row + 1 < k { _mm256_maskz_loadu_epi16(mask, low.add(stride).cast()) } else { _mm256_setzero_si256() };
                let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, low.cast()));
                _mm512_storeu_si512(panel.add(row / 2 * WIDTH + column).cast(), _mm512_or_si512(low, high));
            }
        }
    }
}

/// Transposes a left operand whose columns are contiguous, with a distance of `stride`, into `m` rows of words of pairs.
///
/// # Safety
///
/// `k` columns of `m` values can be read, `out` holds `m` rows of half as many words as `k`, rounded up, and the processor has
/// AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn columns_to_rows(out: *mut u32, values: *const f32, stride: usize, m: usize, k: usize) {
    let depth = k.div_ceil(2);
    for row in (0..m).step_by(LANES) {
        for word in (0..depth).step_by(LANES) {
            // SAFETY: all rows and columns are those of the contract; the mask leaves out words behind the last one.
            unsafe {
                let mut columns = [_mm512_setzero_si512(); LANES];
                for (i, column) in columns.iter_mut().enumerate().take(depth - word) {
                    let low = values.add(2 * (word + i) * stride + row);
                    let high = (2 * (word + i) + 1 < k).then(|| low.add(stride));
                    *column = interleaved(low, high, m - row);
                }
                for (r, words) in transposed(&columns).into_iter().enumerate().take(m - row) {
                    _mm512_mask_storeu_epi32(out.add((row + r) * depth + word).cast(), mask(depth - word), words);
                }
            }
        }
    }
}
