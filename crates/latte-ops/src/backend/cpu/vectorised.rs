//! Loops that are compiled for several instruction sets; one version is chosen at run time.

/// Defines a function whose loops the compiler vectorises for the instruction set in use. Its body may use the constant `FUSED`:
/// whether a product and a sum are one instruction (see [`mul_add`]).
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable<const FUSED: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    portable::<true>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    portable::<true>($($arg),*)
                }
                match $crate::InstructionSet::current() {
                    $crate::InstructionSet::Portable => {}
                    // SAFETY: the instruction set in use is always one that the processor has.
                    $crate::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::InstructionSet::Avx512 | $crate::InstructionSet::Avx512Bf16 => return unsafe { avx512($($arg),*) },
                }
            }
            portable::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// The number of partial sums, so that a sum has no chain of additions as long as the row.
const LANES: usize = 16;

/// The sum of `f(i)` for `i < len`.
#[inline(always)]
pub(crate) fn sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(i + lane);
        }
        i += LANES;
    }
    let rest: f32 = (whole..len).map(f).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `a · b + c`, in one instruction if `FUSED`. Without such an instruction `f32::mul_add` would be a function call.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// eˣ to within 2 units in the last place; 0 below −87, and e⁸⁸ above 88.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts. The first has few bits, so that x − n·ln 2 is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer, which is then in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<FUSED>(clamped, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FUSED>(n, -LN_2_LOW, mul_add::<FUSED>(n, -LN_2_HIGH, clamped));
    // The Taylor polynomial of eʳ for |r| ≤ ½·ln 2.
    const COEFFICIENTS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let p = COEFFICIENTS.iter().fold(1.0 / 5040.0, |p, &c| mul_add::<FUSED>(p, r, c));
    let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_the_standard_one() {
        for exp in [exp::<true>, exp::<false>] {
            let mut worst = 0f64;
            for i in -87_000..88_000 {
                let x = i as f32 / 1000.0;
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
            }
            assert!(worst < 3e-7, "{worst:e}");
            assert_eq!(exp(-1000.0), 0.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert!(exp(0.0) == 1.0 && exp(f32::NAN).is_nan());
        }
    }

    #[test]
    fn sums_of_any_length_count_each_value_once() {
        for len in [0, 1, 15, 16, 17, 100] {
            assert_eq!(sum(len, |i| (i + 1) as f32), (len * (len + 1) / 2) as f32);
        }
    }
}
