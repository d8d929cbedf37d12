//! The residual connection with a gate.

use candle_core::Tensor;

use crate::backend::cpu::slices::is_cpu_f32;
use crate::backend::{cpu::gated_residual as cpu, reference::gated_residual as reference};
use crate::ops::modulated_layer_norm::check_groups;
use crate::{Error, Result, Tape, Var};

/// `x + gate · y` (adaLN-Zero, §3.3 of DiT).
///
/// # Shapes
///
/// `x` and `y` `[…, d]`; `gate` `[g, d]`. The rows of `x`, in order, fall into `g` equal groups that share one gate.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn gated_residual(tape: &Tape<'_>, x: &Var, gate: &Var, y: &Var) -> Result<Var> {
    check_groups("gated_residual", x, gate)?;
    if x.dims() != y.dims() {
        return Err(Error::shape("gated_residual", format!("y of shape {:?}", x.dims()), y.dims()));
    }
    let value = forward(x.tensor(), gate.tensor(), y.tensor())?;
    let (gate_value, y_value) = (gate.tensor().clone(), y.tensor().clone());
    let (x, gate, y) = (x.target(), gate.target(), y.target());
    Ok(tape.record(value, &[x.clone(), gate.clone(), y.clone()], move |gradient, gradients| {
        let (gate_gradient, y_gradient) = backward(&gate_value, &y_value, &gradient)?;
        gradients.give(&gate, gate_gradient)?;
        gradients.give(&y, y_gradient)?;
        gradients.give(&x, gradient)
    }))
}

fn forward(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    let cpu = [x, gate, y].into_iter().all(is_cpu_f32);
    if cpu { cpu::forward(x, gate, y) } else { Ok(reference::forward(x, gate, y)?) }
}

/// The gradients of `gate` and `y`.
fn backward(gate: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    if is_cpu_f32(y) { cpu::backward(gate, y, gradient) } else { Ok(reference::backward(gate, y, gradient)?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[2, 5], 2)?, pseudo_random(&[2, 3, 5], 3)?];
        check(&inputs, |tape, v| gated_residual(tape, &v[0], &v[1], &v[2]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            (groups, rows, many, d) in (1usize..5, 1usize..60, 0usize..4, 1usize..140),
            transposed in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let rows = if many == 0 { rows + 300 } else { rows };
            let run = || -> Result<()> {
                // Other strides, the same values.
                let random = |dims: &[usize], seed| {
                    let t = pseudo_random(dims, seed)?;
                    if transposed { Ok(t.transpose(0, 1)?.contiguous()?.transpose(0, 1)?) } else { Result::Ok(t) }
                };
                let (x, y) = (random(&[groups, rows, d], seed)?, random(&[groups, rows, d], seed ^ 1)?);
                let (gate, gradient) = (random(&[groups, d], seed ^ 2)?, random(&[groups, rows, d], seed ^ 3)?);
                assert_close(&cpu::forward(&x, &gate, &y)?, &reference::forward(&x, &gate, &y)?, 1e-6)?;
                let (ours, plain) = (cpu::backward(&gate, &y, &gradient)?, reference::backward(&gate, &y, &gradient)?);
                assert_close(&ours.0, &plain.0, 2e-5)?;
                assert_close(&ours.1, &plain.1, 1e-6)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
