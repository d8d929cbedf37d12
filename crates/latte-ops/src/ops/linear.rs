//! Linear layers, alone and fused with GELU or a gated residual.

use super::modulated_layer_norm::check_groups;
use crate::backend::{self, Backend};
use crate::tape::Context;
use crate::{Error, Result, Tape, Value, Var, gated_residual};

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
    let call = Linear::new("linear", tape, x, weight, bias)?;
    tape.record("linear", &call.parents(), call.backend([]).linear(&call)?)
}

/// [`linear`] for a result that only matmuls read: those of other linear layers, or of attention without rotary positions. If the
/// tape does not record and its matmuls round operands to bfloat16, the result is rounded here and stored as bfloat16.
///
/// # Shapes
///
/// As [`linear`].
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_low_precision(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    let call = Linear { low_precision: true, ..Linear::new("linear_low_precision", tape, x, weight, bias)? };
    tape.record("linear_low_precision", &call.parents(), call.backend([]).linear(&call)?)
}

/// `gelu(x · weightᵀ + bias)` with the tanh approximation of GELU. Only matmuls may read the result (see [`linear_low_precision`]).
///
/// # Shapes
///
/// As [`linear`].
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_gelu(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    let call = Linear { low_precision: true, ..Linear::new("linear_gelu", tape, x, weight, bias)? };
    tape.record("linear_gelu", &call.parents(), call.backend([]).linear_gelu(&call)?)
}

/// `residual + gate · (x · weightᵀ + bias)`: a linear layer and the gated residual connection after it.
///
/// # Shapes
///
/// `x`, `weight`, `bias` as in [`linear`]; `residual` `[…, out]`; `gate` `[g, out]`: the rows of `x` form `g` equal groups that
/// share one gate. Gives `[…, out]`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_gated(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>, residual: &Var, gate: &Var) -> Result<Var> {
    // The gradient of the gate needs the layer's own output, so a recording tape keeps it.
    if tape.is_recording() {
        let y = linear(tape, x, weight, bias)?;
        return gated_residual(tape, residual, gate, &y);
    }
    let call = Linear::new("linear_gated", tape, x, weight, bias)?;
    check_groups("linear_gated", residual, gate)?;
    let fits = residual.dims().split_last() == x.dims().split_last().map(|(_, rows)| (&weight.dims()[0], rows));
    if !fits {
        return Err(Error::shape("linear_gated", "a residual of the shape of the output", residual.dims()));
    }
    let (residual, gate) = (residual.value(), gate.value());
    Ok(tape.constant(call.backend([residual, gate]).linear_gated(&call, residual, gate)?))
}

/// The arguments of a linear layer, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear<'c> {
    pub(crate) context: Context<'c>,
    pub(crate) x: &'c Var,
    pub(crate) weight: &'c Var,
    pub(crate) bias: Option<&'c Var>,
    /// Whether only matmuls read the result.
    pub(crate) low_precision: bool,
}

impl<'c> Linear<'c> {
    fn new(op: &'static str, tape: &'c Tape<'_>, x: &'c Var, weight: &'c Var, bias: Option<&'c Var>) -> Result<Self> {
        let fits = match (x.dims(), weight.dims()) {
            ([_, .., input], [out, weight_input]) => input == weight_input && bias.is_none_or(|b| b.dims() == [*out]),
            _ => false,
        };
        if !fits {
            let got = (x.dims(), weight.dims(), bias.map(Var::dims));
            return Err(Error::shape(op, "x […, in], weight [out, in], bias [out]", got));
        }
        Ok(Self { context: tape.context(), x, weight, bias, low_precision: false })
    }

    fn parents(&self) -> Vec<&'c Var> {
        [Some(self.x), Some(self.weight), self.bias].into_iter().flatten().collect()
    }

    fn backend<const N: usize>(&self, more: [&Value; N]) -> &'static dyn Backend {
        backend::of(self.parents().into_iter().map(Var::value).chain(more))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::Precision;
    use crate::finite_difference::{check, pseudo_random};

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
        assert_eq!(y.to_host()?.to_vec2::<f32>()?, [[1.25, -2.5]]);
        let y = linear_gelu(&tape, &x, &weight, Some(&bias))?.to_host()?.to_vec2::<f32>()?;
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
        assert_eq!(y.to_host()?.to_vec2::<f32>()?, [[3.]]);
        Ok(())
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
