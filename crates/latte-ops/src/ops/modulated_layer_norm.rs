//! Layer norm modulated by a condition (adaLN).

use crate::backend::cpu::operand::keeps_pairs;
use crate::backend::cpu::slices::is_cpu_f32;
use crate::backend::{cpu::modulated_layer_norm as cpu, reference::modulated_layer_norm as reference};
use crate::{Error, Result, Tape, Var};

/// `norm(x) · (1 + scale) + shift` over the last axis, where `norm` has no parameters of its own (adaLN, §3.3 of DiT), for products
/// to read (see [`crate::linear_low_precision`]).
///
/// # Shapes
///
/// `x` `[…, d]`; `shift` and `scale` `[g, d]`. The rows of `x`, in order, fall into `g` equal groups that share one vector.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn modulated_layer_norm(tape: &Tape<'_>, x: &Var, shift: &Var, scale: &Var, eps: f64) -> Result<Var> {
    check_groups("modulated_layer_norm", x, shift)?;
    check_groups("modulated_layer_norm", x, scale)?;
    let cpu = [x, shift, scale].iter().all(|v| is_cpu_f32(v.tensor()));
    if cpu && keeps_pairs(tape) {
        return Ok(tape.constant(cpu::forward_for_products(x.tensor(), shift.tensor(), scale.tensor(), eps)?));
    }
    let (y, saved) = if cpu {
        let (y, saved) = cpu::forward(x.tensor(), shift.tensor(), scale.tensor(), eps)?;
        (y, Saved::Cpu(saved))
    } else {
        let (y, saved) = reference::forward(x.tensor(), shift.tensor(), scale.tensor(), eps)?;
        (y, Saved::Plain(saved))
    };
    let scale_value = scale.tensor().clone();
    let (x, shift, scale) = (x.target(), shift.target(), scale.target());
    Ok(tape.record(y, &[x.clone(), shift.clone(), scale.clone()], move |gradient, gradients| {
        let [dx, dshift, dscale] = match saved {
            Saved::Cpu(saved) => cpu::backward(&saved, &scale_value, &gradient)?,
            Saved::Plain(saved) => reference::backward(&saved, &scale_value, &gradient)?,
        };
        gradients.give(&x, dx)?;
        gradients.give(&shift, dshift)?;
        gradients.give(&scale, dscale)
    }))
}

/// What the backward pass needs of the forward pass.
enum Saved {
    Cpu(cpu::Saved),
    Plain(reference::Saved),
}

/// Whether `vectors` `[g, d]` can be shared among the rows of `x` `[…, d]`.
pub(crate) fn check_groups(op: &'static str, x: &Var, vectors: &Var) -> Result<()> {
    let fits = match (x.dims(), vectors.dims()) {
        ([rows @ .., d], [groups, width]) => d == width && *groups > 0 && rows.iter().product::<usize>().is_multiple_of(*groups),
        _ => false,
    };
    if fits { Ok(()) } else { Err(Error::shape(op, "x […, d] and vectors [g, d]", (x.dims(), vectors.dims()))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, assert_close_at, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[2, 5], 2)?, pseudo_random(&[2, 5], 3)?];
        check(&inputs, |tape, v| modulated_layer_norm(tape, &v[0], &v[1], &v[2], 1e-6))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            (groups, rows, many, d) in (1usize..5, 1usize..60, 0usize..4, 2usize..140),
            transposed in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let rows = if many == 0 { rows + 300 } else { rows };
            let run = || -> Result<()> {
                let x = ((pseudo_random(&[groups, rows, d], seed)? * 3.0)? + 0.5)?;
                let (shift, scale) = (pseudo_random(&[groups, d], seed ^ 1)?, pseudo_random(&[groups, d], seed ^ 2)?);
                let gradient = pseudo_random(&[groups, rows, d], seed ^ 3)?;
                // Other strides, the same values.
                let strided = |t: &candle_core::Tensor| if transposed { t.transpose(0, 1)?.contiguous()?.transpose(0, 1) } else { Ok(t.clone()) };
                let (ours, saved) = cpu::forward(&strided(&x)?, &strided(&shift)?, &strided(&scale)?, 1e-6)?;
                let (plain, plain_saved) = reference::forward(&x, &shift, &scale, 1e-6)?;
                assert_close(&ours, &plain, 1e-5)?;
                let plain = reference::backward(&plain_saved, &scale, &gradient)?;
                // Terms of about 1, and in the gradient of x of about 1/std, may cancel: a row of two values has none.
                let largest = |t: &candle_core::Tensor| Result::Ok(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?);
                let deviations = x.broadcast_sub(&x.mean_keepdim(2)?)?.sqr()?.mean_keepdim(2)?;
                let terms = [largest(&(deviations + 1e-6)?.powf(-0.5)?)?, 1.0, 1.0];
                let ours = cpu::backward(&saved, &scale, &strided(&gradient)?)?;
                for ((ours, plain), terms) in ours.iter().zip(&plain).zip(terms) {
                    assert_close_at(ours, plain, 5e-5, f64::from(largest(plain)?.max(terms)))?;
                }
                Ok(())
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn groups_get_their_own_vectors_and_rows_are_normal() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(pseudo_random(&[2, 4, 64], 1)?);
        let shift = tape.constant(candle_core::Tensor::new(&[[0f32; 64], [5.; 64]], &candle_core::Device::Cpu)?);
        let scale = tape.constant(candle_core::Tensor::new(&[[0f32; 64], [1.; 64]], &candle_core::Device::Cpu)?);
        let y = modulated_layer_norm(&tape, &x, &shift, &scale, 1e-6)?.tensor().to_vec3::<f32>()?;
        for (group, (mean, variance)) in [(0.0, 1.0), (5.0, 4.0)].into_iter().enumerate() {
            for row in &y[group] {
                let m = row.iter().sum::<f32>() / 64.0;
                let v = row.iter().map(|v| (v - m).powi(2)).sum::<f32>() / 64.0;
                assert!((m - mean).abs() < 1e-4 && (v - variance).abs() < 1e-3, "mean {m}, variance {v}");
            }
        }
        Ok(())
    }
}
