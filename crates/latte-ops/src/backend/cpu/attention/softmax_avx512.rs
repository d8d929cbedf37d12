//! The exponentials of a row of scores with AVX-512-BF16, written directly as operands of the next matmul.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_max_ps,
    _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_si512,
};

use crate::backend::cpu::avx512::{LANES, exp2_below, mask};

/// Softmax of `scale · scores + bias`, without the division by the sum of exponentials, for rows of `width` values with a distance
/// of `stride`. The result is words of pairs with `depth` words per row. The sums of the unrounded exponentials are written to
/// `totals`.
///
/// # Safety
///
/// The processor has AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn exponentials(
    words: &mut [u32],
    scores: &mut [f32],
    [width, stride]: [usize; 2],
    scale: f32,
    bias: &[f32],
    totals: &mut Vec<f32>,
) {
    let depth = width.div_ceil(2);
    // With a bias, the scale is applied when the bias is added.
    let factor = if bias.is_empty() { scale } else { 1.0 } * std::f32::consts::LOG2_E;
    let bias = (!bias.is_empty()).then(|| &bias[..width]);
    for (row, words) in scores.chunks_mut(stride).zip(words.chunks_mut(depth.max(1))) {
        let (row, words) = (&mut row[..width], &mut words[..depth]);
        if let Some(bias) = bias {
            add_bias(row, scale, bias);
        }
        // A row whose keys are all masked would otherwise compute ∞ − ∞.
        let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest(row)).max(f32::MIN) * factor);
        let factor = _mm512_set1_ps(factor);
        let mut sums = [_mm512_setzero_ps(); 2];
        let (whole, rest) = row.as_chunks::<{ 2 * LANES }>();
        let (whole_words, rest_words) = words.split_at_mut(whole.len() * LANES);
        for (values, words) in whole.iter().zip(whole_words.as_chunks_mut::<LANES>().0) {
            // SAFETY: 32 values become 16 words.
            unsafe {
                let x = [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values[LANES..].as_ptr())];
                let y = x.map(|x| exp2_below(x, factor, largest));
                sums = [_mm512_add_ps(sums[0], y[0]), _mm512_add_ps(sums[1], y[1])];
                _mm512_storeu_si512(words.as_mut_ptr().cast(), pairs(y));
            }
        }
        if !rest.is_empty() {
            let masks = [mask(rest.len()), mask(rest.len().saturating_sub(LANES))];
            // SAFETY: the masks leave out values and words behind the last one.
            unsafe {
                let behind = rest.as_ptr().wrapping_add(LANES);
                let x = [_mm512_maskz_loadu_ps(masks[0], rest.as_ptr()), _mm512_maskz_loadu_ps(masks[1], behind)];
                let y = x.map(|x| exp2_below(x, factor, largest));
                let y = [_mm512_maskz_mov_ps(masks[0], y[0]), _mm512_maskz_mov_ps(masks[1], y[1])];
                sums = [_mm512_add_ps(sums[0], y[0]), _mm512_add_ps(sums[1], y[1])];
                _mm512_mask_storeu_epi32(rest_words.as_mut_ptr().cast(), mask(rest.len().div_ceil(2)), pairs(y));
            }
        }
        totals.push(_mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])));
    }
}

/// 32 values as words of pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs([low, high]: [__m512; 2]) -> __m512i {
    // SAFETY: both types are 64 bytes, and every bit pattern is valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// `row = row · scale + bias`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_bias(row: &mut [f32], scale: f32, bias: &[f32]) {
    let scale = _mm512_set1_ps(scale);
    for (row, bias) in row.chunks_mut(LANES).zip(bias.chunks(LANES)) {
        let mask = mask(row.len());
        // SAFETY: the mask leaves out values behind the last one.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, row.as_ptr());
            let sum = _mm512_fmadd_ps(x, scale, _mm512_maskz_loadu_ps(mask, bias.as_ptr()));
            _mm512_mask_storeu_ps(row.as_mut_ptr(), mask, sum);
        }
    }
}

/// The largest values of a row, one per lane; −∞ for lanes without a value.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(row: &[f32]) -> __m512 {
    // Several independent chains, so that no maximum waits for the one before.
    let mut lanes = [_mm512_set1_ps(f32::NEG_INFINITY); 4];
    let (whole, rest) = row.as_chunks::<{ 4 * LANES }>();
    for values in whole {
        for (lane, values) in lanes.iter_mut().zip(values.as_chunks::<LANES>().0) {
            // SAFETY: 16 values.
            *lane = _mm512_max_ps(unsafe { _mm512_loadu_ps(values.as_ptr()) }, *lane);
        }
    }
    for (lane, values) in lanes.iter_mut().zip(rest.chunks(LANES)) {
        let mask = mask(values.len());
        // SAFETY: the mask leaves out values behind the last one.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) };
        *lane = _mm512_mask_max_ps(*lane, mask, x, *lane);
    }
    _mm512_max_ps(_mm512_max_ps(lanes[0], lanes[1]), _mm512_max_ps(lanes[2], lanes[3]))
}
