//! A linear layer, plain and followed by GELU.

mod cpu;
mod reference;

use candle_core::Tensor;

use crate::slices::is_cpu_f32;
use crate::{Error, Precision, Result, Tape, Var};

/// `x · weightᵀ + bias`.
///
/// # Shapes
///
/// `x` `[…, in]`, `weight` `[out, in]`, `bias` `[out]`; gives `[…, out]`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    check_shapes("linear", x, weight, bias)?;
    let precision = tape.precision();
    let y = forward(precision, x.tensor(), weight.tensor(), bias.map(Var::tensor))?;
    let (x_value, weight_value) = (x.tensor().clone(), weight.tensor().clone());
    let (x, weight, bias) = (x.target(), weight.target(), bias.map(Var::target));
    let parents: Vec<_> = [Some(&x), Some(&weight), bias.as_ref()].into_iter().flatten().cloned().collect();
    Ok(tape.record(y, &parents.iter().collect::<Vec<_>>(), move |gradient, gradients| {
        if x.is_wanted() {
            gradients.give(&x, backward_input(precision, &weight_value, &gradient)?)?;
        }
        if weight.is_wanted() {
            gradients.give(&weight, backward_weight(precision, &x_value, &gradient)?)?;
        }
        if let Some(bias) = bias {
            gradients.give(&bias, backward_bias(&gradient)?)?;
        }
        Ok(())
    }))
}

/// `gelu(x · weightᵀ + bias)` with the tanh approximation of GELU.
///
/// # Shapes
///
/// As [`linear`].
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_gelu(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    let linear = linear(tape, x, weight, bias)?;
    let (value, target) = (linear.tensor().clone(), linear.target());
    Ok(tape.record(gelu(&value)?, &[&linear.target()], move |gradient, gradients| {
        gradients.give(&target, backward_gelu(&value, &gradient)?)
    }))
}

fn forward(precision: Precision, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let cpu = is_cpu_f32(x) && is_cpu_f32(weight) && bias.is_none_or(is_cpu_f32);
    if cpu { cpu::forward(precision, x, weight, bias) } else { Ok(reference::forward(precision, x, weight, bias)?) }
}

fn backward_input(precision: Precision, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let cpu = is_cpu_f32(weight) && is_cpu_f32(gradient);
    if cpu {
        cpu::backward_input(precision, weight, gradient)
    } else {
        Ok(reference::backward_input(precision, weight, gradient)?)
    }
}

fn backward_weight(precision: Precision, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let cpu = is_cpu_f32(x) && is_cpu_f32(gradient);
    if cpu { cpu::backward_weight(precision, x, gradient) } else { Ok(reference::backward_weight(precision, x, gradient)?) }
}

fn backward_bias(gradient: &Tensor) -> Result<Tensor> {
    match gradient.dims() {
        [.., width] if is_cpu_f32(gradient) => cpu::sum_rows(gradient, *width),
        _ => Ok(reference::backward_bias(gradient)?),
    }
}

fn gelu(x: &Tensor) -> Result<Tensor> {
    if is_cpu_f32(x) { cpu::gelu(x) } else { Ok(reference::gelu(x)?) }
}

fn backward_gelu(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if is_cpu_f32(x) { cpu::backward_gelu(x, gradient) } else { Ok(reference::backward_gelu(x, gradient)?) }
}

fn check_shapes(op: &'static str, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<()> {
    let fits = match (x.dims(), weight.dims()) {
        ([_, .., input], [out, weight_input]) => input == weight_input && bias.is_none_or(|b| b.dims() == [*out]),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        let got = (x.dims(), weight.dims(), bias.map(Var::dims));
        Err(Error::shape(op, "x […, in], weight [out, in], bias [out]", got))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::finite_difference::{assert_close, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[4, 5], 2)?, pseudo_random(&[4], 3)?];
        check(&inputs, |tape, v| linear(tape, &v[0], &v[1], Some(&v[2])))?;
        check(&inputs, |tape, v| linear_gelu(tape, &v[0], &v[1], Some(&v[2])))?;
        check(&inputs[..2], |tape, v| linear(tape, &v[0], &v[1], None))
    }

    #[test]
    fn values_are_the_products_and_sums_by_hand() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(Tensor::new(&[[1f32, -2.]], &Device::Cpu)?);
        let weight = tape.constant(Tensor::new(&[[3f32, 1.], [0.5, 2.]], &Device::Cpu)?);
        let bias = tape.constant(Tensor::new(&[0.25f32, 1.], &Device::Cpu)?);
        let y = linear(&tape, &x, &weight, Some(&bias))?;
        assert_eq!(y.tensor().to_vec2::<f32>()?, [[1.25, -2.5]]);
        let y = linear_gelu(&tape, &x, &weight, Some(&bias))?.tensor().to_vec2::<f32>()?;
        // ½x(1 + tanh(√(2/π)(x + 0.044715x³))) of 1.25 and −2.5.
        assert!((y[0][0] - 1.117_714_2).abs() < 1e-5 && (y[0][1] + 0.015_084_27).abs() < 1e-5, "{y:?}");
        Ok(())
    }

    #[test]
    fn bf16_products_are_those_of_rounded_operands() -> Result<()> {
        // 1 + 2^-9 rounds to 1 in bfloat16 (8 bits of precision).
        let tape = Tape::inference().with_precision(Precision::Bf16);
        let x = tape.constant(Tensor::new(&[[1f32 + 1. / 512.]], &Device::Cpu)?);
        let y = linear(&tape, &x, &tape.constant(Tensor::new(&[[3f32]], &Device::Cpu)?), None)?;
        assert_eq!(y.tensor().to_vec2::<f32>()?, [[3.]]);
        Ok(())
    }

    #[test]
    fn cpu_kernels_agree_with_the_plain_formulation() -> Result<()> {
        // Rows and widths that fit no vector, and more than one piece of parallel work.
        for (rows, input, out) in [(1, 1, 1), (3, 5, 7), (129, 33, 131), (700, 8, 48)] {
            let (x, weight) = (pseudo_random(&[rows, input], 1)?, pseudo_random(&[out, input], 2)?);
            let bias = pseudo_random(&[out], 3)?;
            let y = reference::forward(Precision::F32, &x, &weight, Some(&bias))?;
            for precision in [Precision::F32, Precision::Bf16] {
                let plain = reference::forward(precision, &x, &weight, Some(&bias))?;
                assert_close(&cpu::forward(precision, &x, &weight, Some(&bias))?, &plain, 2e-6)?;
                let plain_input = reference::backward_input(precision, &weight, &y)?;
                assert_close(&cpu::backward_input(precision, &weight, &y)?, &plain_input, 2e-6)?;
                let plain_weight = reference::backward_weight(precision, &x, &y)?;
                assert_close(&cpu::backward_weight(precision, &x, &y)?, &plain_weight, 5e-6)?;
            }
            assert_close(&cpu::sum_rows(&y, out)?, &reference::backward_bias(&y)?, 1e-5)?;
            let (wide, gradient) = ((&y * 6.0)?, pseudo_random(&[rows, out], 4)?);
            // The plain formulation loses digits where its tanh is close to −1.
            assert_close(&cpu::gelu(&wide)?, &reference::gelu(&wide)?, 3e-6)?;
            assert_close(&cpu::backward_gelu(&wide, &gradient)?, &reference::backward_gelu(&wide, &gradient)?, 3e-6)?;
        }
        // A gradient that is not contiguous.
        let gradient = pseudo_random(&[9, 4], 5)?.t()?;
        let (x, weight) = (pseudo_random(&[6, 4], 6)?.t()?, pseudo_random(&[6, 9], 7)?.t()?);
        let plain = reference::forward(Precision::F32, &x, &weight, None)?;
        assert_close(&cpu::forward(Precision::F32, &x, &weight, None)?, &plain, 2e-6)?;
        assert_close(&backward_bias(&gradient)?, &reference::backward_bias(&gradient)?, 1e-6)
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(pseudo_random(&[2, 3], 1)?);
        let weight = tape.constant(pseudo_random(&[4, 5], 2)?);
        let message = linear(&tape, &x, &weight, None).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("[2, 3]") && message.contains("[4, 5]"), "{message}");
        Ok(())
    }
}
