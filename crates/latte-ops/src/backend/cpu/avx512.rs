//! Functions of 16 values at once, with AVX-512 instructions that compilers do not generate from loops.
//! [`vectorised`](crate::backend::cpu::vectorised) loops are written once for all instruction sets; the functions here are those
//! that take the most time in the largest models.

use std::arch::x86_64::{
    __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_rcp14_ps,
    _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

/// The values of a register.
pub(crate) const LANES: usize = 16;

/// The lowest `count` bits set, at most 16.
#[inline(always)]
pub(crate) fn mask(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}

/// 2ⁿ⁺ᶠ for whole `n` and |f| ≤ ½, to within 2 units in the last place.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2_of_parts(n: __m512, f: __m512) -> __m512 {
    // The Taylor polynomial of 2ᶠ: (ln 2)ⁱ / i!, highest power first.
    const COEFFICIENTS: [f32; 8] = {
        let mut terms = [1f64; 8];
        let mut i = 1;
        while i < 8 {
            terms[i] = terms[i - 1] * std::f64::consts::LN_2 / i as f64;
            i += 1;
        }
        let mut reversed = [0f32; 8];
        while i > 0 {
            reversed[8 - i] = terms[i - 1] as f32;
            i -= 1;
        }
        reversed
    };
    let mut p = _mm512_set1_ps(COEFFICIENTS[0]);
    for &c in &COEFFICIENTS[1..] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(p, n)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_whole(x: __m512) -> __m512 {
    _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// 2ᵗ for t = `x · factor − largest`: the exponentials of a softmax if `factor` contains log₂ e. `x · factor` is not rounded before
/// the difference, and a rounding error in `largest` scales all exponentials alike.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn exp2_below(x: __m512, factor: __m512, largest: __m512) -> __m512 {
    // −∞ would give ∞ − ∞ in the fraction. NaN stays NaN: if one operand is NaN, the result is the second.
    let t = _mm512_max_ps(_mm512_set1_ps(-200.0), _mm512_fmsub_ps(x, factor, largest));
    let n = to_whole(t);
    exp2_of_parts(n, _mm512_sub_ps(t, n))
}

/// eˣ to within 3 units in the last place, for |x| up to 80.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    /// log₂ e in two parts.
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const REST: f32 = (std::f64::consts::LOG2_E - LOG2_E as f64) as f32;
    let n = to_whole(_mm512_mul_ps(x, _mm512_set1_ps(LOG2_E)));
    let f = _mm512_fmsub_ps(x, _mm512_set1_ps(LOG2_E), n);
    exp2_of_parts(n, _mm512_fmadd_ps(x, _mm512_set1_ps(REST), f))
}

/// `x / (1 + exp(−x · (linear + cubic · x²)))`: GELU in its tanh form, since ½(1 + tanh u) is 1 / (1 + e⁻²ᵘ).
#[inline]
#[target_feature(enable = "avx512f")]
fn gelu_of(x: __m512, linear: f32, cubic: f32) -> __m512 {
    let slope = _mm512_fmadd_ps(_mm512_mul_ps(x, _mm512_set1_ps(-cubic)), x, _mm512_set1_ps(-linear));
    // Beyond ±80 the result is x or 0 within f32 precision. NaN stays NaN, as above.
    let exponent = _mm512_min_ps(_mm512_set1_ps(80.0), _mm512_mul_ps(x, slope));
    let exponent = _mm512_max_ps(_mm512_set1_ps(-80.0), exponent);
    let one = _mm512_set1_ps(1.0);
    let divisor = _mm512_add_ps(one, exp(exponent));
    // The estimate has 14 bits; one Newton step doubles them.
    let inverse = _mm512_rcp14_ps(divisor);
    let inverse = _mm512_fmadd_ps(inverse, _mm512_fnmadd_ps(divisor, inverse, one), inverse);
    _mm512_mul_ps(x, inverse)
}

/// `out = gelu(x + bias)`, with the factors of [`gelu_of`].
///
/// # Safety
///
/// `len` values of `x` and `bias` can be read, and `len` values of `out`, which may be `x`, can be written; the processor has
/// AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn gelu(out: *mut f32, x: *const f32, bias: Option<&[f32]>, len: usize, linear: f32, cubic: f32) {
    let whole = len / LANES * LANES;
    // SAFETY: all accesses are before `len`, or the mask leaves them out.
    unsafe {
        for first in (0..whole).step_by(LANES) {
            let mut value = _mm512_loadu_ps(x.add(first));
            if let Some(bias) = bias {
                value = _mm512_add_ps(value, _mm512_loadu_ps(bias.as_ptr().add(first)));
            }
            _mm512_storeu_ps(out.add(first), gelu_of(value, linear, cubic));
        }
        let mask = mask(len - whole);
        let bias = bias.map_or(_mm512_setzero_ps(), |bias| _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(whole)));
        let value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x.add(whole)), bias);
        _mm512_mask_storeu_ps(out.add(whole), mask, gelu_of(value, linear, cubic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

    /// `f` of all values; `None` if the processor has no AVX-512.
    fn each(values: &[f32], f: unsafe fn(__m512) -> __m512) -> Option<Vec<f32>> {
        if InstructionSet::detected() < InstructionSet::Avx512 {
            needs::not_run("avx512", "exponentials are not compared");
            return None;
        }
        let mut results = vec![0f32; values.len()];
        for (result, values) in results.chunks_exact_mut(LANES).zip(values.chunks_exact(LANES)) {
            // SAFETY: 16 values each.
            unsafe { _mm512_storeu_ps(result.as_mut_ptr(), f(_mm512_loadu_ps(values.as_ptr()))) };
        }
        Some(results)
    }

    #[test]
    fn exponentials_are_the_standard_ones() {
        let values: Vec<f32> = (-80_000..80_000).map(|i| i as f32 / 1000.0).collect();
        #[target_feature(enable = "avx512f")]
        fn softmax(x: __m512) -> __m512 {
            exp2_below(x, _mm512_set1_ps(std::f32::consts::LOG2_E), _mm512_set1_ps(0.0))
        }
        for (f, limit) in [(exp as unsafe fn(__m512) -> __m512, 3e-7), (softmax, 5e-6)] {
            let Some(results) = each(&values, f) else { return };
            for (&x, result) in values.iter().zip(results) {
                let exact = f64::from(x).exp();
                assert!((f64::from(result) - exact).abs() <= limit * exact, "e^{x}: {result}, not {exact}");
            }
        }
        let ends = [f32::NEG_INFINITY, -1e30, -1000.0, 0.0, f32::NAN, -0.0, -150.0, -90.0].repeat(2);
        let Some(results) = each(&ends, softmax) else { return };
        assert_eq!(results[..4], [0.0, 0.0, 0.0, 1.0]);
        assert!(results[4].is_nan() && results[5] == 1.0 && results[6] == 0.0 && results[7] > 0.0);
    }
}
