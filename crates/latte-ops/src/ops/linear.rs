//! A linear layer, plain and followed by GELU.

use std::sync::Arc;

use candle_core::Tensor;

use crate::backend::cpu::gemm::{Kernel, Packed};
use crate::backend::cpu::operand::{is_cpu_operand, keeps_pairs};
use crate::backend::cpu::packed_weight_cache::{self, Side};
use crate::backend::cpu::slices::is_cpu_f32;
use crate::backend::{cpu::linear as cpu, reference::linear as reference};
use crate::ops::modulated_layer_norm::check_groups;
use crate::tape::Target;
use crate::{Error, Gradients, PackedWeightCache, Precision, Result, Tape, Var, gated_residual};

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
    let y = forward(tape, x, weight, bias)?;
    let layer = Layer::new(tape, x, weight, bias);
    Ok(tape.record(y, &layer.targets(), move |gradient, gradients| layer.backward(&gradient, None, gradients)))
}

/// [`linear`], for a result that nothing but products reads: other linear layers, and attention that turns nothing. Where those
/// round it to bfloat16 and nothing is recorded, it is rounded here and kept so.
///
/// # Shapes
///
/// As [`linear`].
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_low_precision(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    if !keeps_pairs(tape) || !is_cpu(tape, x, weight, bias) {
        return linear(tape, x, weight, bias);
    }
    check_shapes("linear_low_precision", x, weight, bias)?;
    let y = cpu::forward(x.tensor(), &*packed(tape, weight)?, bias.map(Var::tensor), weight.dims()[0], true)?;
    Ok(tape.constant(y))
}

/// `gelu(x · weightᵀ + bias)` with the tanh approximation of GELU, for products to read (see [`linear_low_precision`]).
///
/// # Shapes
///
/// As [`linear`].
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_gelu(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    check_shapes("linear_gelu", x, weight, bias)?;
    if !is_cpu(tape, x, weight, bias) {
        let linear = linear(tape, x, weight, bias)?;
        let (value, target) = (linear.tensor().clone(), linear.target());
        return Ok(tape.record(reference::gelu(&value)?, &[linear.target()], move |gradient, gradients| {
            gradients.give(&target, reference::backward_gelu(&value, &gradient)?)
        }));
    }
    let (packed, out) = (packed(tape, weight)?, weight.dims()[0]);
    if !tape.is_recording() {
        return Ok(tape.constant(cpu::forward_gelu_only(x.tensor(), &packed, bias.map(Var::tensor), out, keeps_pairs(tape))?));
    }
    let [y, before] = cpu::forward_gelu(x.tensor(), &packed, bias.map(Var::tensor), out)?;
    let layer = Layer::new(tape, x, weight, bias);
    Ok(tape.record(y, &layer.targets(), move |gradient, gradients| {
        let [gradient, bias] = cpu::backward_gelu(&before, &gradient)?;
        layer.backward(&gradient, Some(bias), gradients)
    }))
}

/// `residual + gate · (x · weightᵀ + bias)`: a linear layer and the gated residual connection around it.
///
/// # Shapes
///
/// `x`, `weight`, `bias` as in [`linear`]; `residual` `[…, out]`; `gate` `[g, out]`, whose rows equal groups of rows share.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn linear_gated(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>, residual: &Var, gate: &Var) -> Result<Var> {
    // The gradient of the gate needs the layer's own output, so a recording tape keeps it.
    if tape.is_recording() || !is_cpu(tape, x, weight, bias) {
        let y = linear(tape, x, weight, bias)?;
        return gated_residual(tape, residual, gate, &y);
    }
    check_shapes("linear_gated", x, weight, bias)?;
    check_groups("linear_gated", residual, gate)?;
    let fits = residual.dims().split_last() == x.dims().split_last().map(|(_, rows)| (&weight.dims()[0], rows));
    if !fits {
        return Err(Error::shape("linear_gated", "a residual of the shape of the output", residual.dims()));
    }
    let (bias, residual, gate) = (bias.map(Var::tensor), residual.tensor(), gate.tensor());
    Ok(tape.constant(cpu::forward_gated(x.tensor(), &*packed(tape, weight)?, bias, residual, gate)?))
}

/// The weight packed for the forward pass.
fn packed(tape: &Tape<'_>, weight: &Var) -> Result<Arc<Packed>> {
    packed_weight_cache::packed(tape.packed_weights(), weight, Side::Forward, Kernel::of(tape.precision()))
}

fn is_cpu(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> bool {
    is_cpu_operand(tape, x) && is_cpu_f32(weight.tensor()) && bias.is_none_or(|b| is_cpu_f32(b.tensor()))
}

fn forward(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Tensor> {
    if is_cpu(tape, x, weight, bias) {
        cpu::forward(x.tensor(), &*packed(tape, weight)?, bias.map(Var::tensor), weight.dims()[0], false)
    } else {
        Ok(reference::forward(tape.precision(), x.tensor(), weight.tensor(), bias.map(Var::tensor))?)
    }
}

/// What the backward pass of a linear layer needs.
struct Layer {
    precision: Precision,
    packed_weights: Option<PackedWeightCache>,
    x: Var,
    weight: Var,
    bias: Option<Target>,
    targets: Vec<Target>,
}

impl Layer {
    fn new(tape: &Tape<'_>, x: &Var, weight: &Var, bias: Option<&Var>) -> Self {
        let bias = bias.map(Var::target);
        let targets = [Some(x.target()), Some(weight.target()), bias.clone()].into_iter().flatten().collect();
        let packed_weights = tape.packed_weights().cloned();
        Self { precision: tape.precision(), packed_weights, x: x.clone(), weight: weight.clone(), bias, targets }
    }

    fn targets(&self) -> Vec<Target> {
        self.targets.clone()
    }

    /// Hands on the gradient of the output; `bias` is that of the bias if it is known already.
    fn backward(&self, gradient: &Tensor, bias: Option<Tensor>, gradients: &mut Gradients) -> Result<()> {
        if self.x.target().is_wanted() {
            gradients.give(&self.x.target(), self.backward_input(gradient)?)?;
        }
        if self.weight.target().is_wanted() {
            gradients.give(&self.weight.target(), backward_weight(self.precision, self.x.tensor(), gradient)?)?;
        }
        if let Some(target) = &self.bias
            && target.is_wanted()
        {
            let bias = bias.map_or_else(|| backward_bias(gradient), Ok)?;
            gradients.give(target, bias)?;
        }
        Ok(())
    }

    fn backward_input(&self, gradient: &Tensor) -> Result<Tensor> {
        if is_cpu_f32(self.weight.tensor()) && is_cpu_f32(gradient) {
            let kernel = Kernel::of(self.precision);
            let weight = packed_weight_cache::packed(self.packed_weights.as_ref(), &self.weight, Side::Backward, kernel)?;
            cpu::backward_input(&weight, gradient, self.weight.dims()[1])
        } else {
            Ok(reference::backward_input(self.precision, self.weight.tensor(), gradient)?)
        }
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
    use candle_core::{DType, Device, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::{undisturbed, with_each};
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            // Rows and widths that fit no vector, and now and then more than one piece of parallel work.
            (groups, rows, many) in (1usize..4, 1usize..60, 0usize..4),
            (input, out) in (1usize..70, 1usize..140),
            (bf16, with_bias, transposed) in (any::<bool>(), any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            let rows = groups * (if many == 0 { rows + 300 } else { rows });
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            let run = || -> Result<()> {
                let contiguous = |dims: [usize; 2], seed| -> Result<Tensor> {
                    let [a, b] = dims;
                    if transposed { Ok(pseudo_random(&[b, a], seed)?.t()?) } else { pseudo_random(&dims, seed) }
                };
                let (x, weight) = (contiguous([rows, input], seed)?, contiguous([out, input], seed ^ 1)?);
                let (bias, gradient) = (pseudo_random(&[out], seed ^ 2)?, contiguous([rows, out], seed ^ 3)?);
                let (residual, gate) = (contiguous([rows, out], seed ^ 4)?, contiguous([groups, out], seed ^ 5)?);
                let bias = with_bias.then_some(&bias);
                let y = reference::forward(precision, &x, &weight, bias)?;
                let near = |ours: &Tensor, plain: &Tensor| assert_close(ours, plain, 1e-5);
                // Behind GELU operands differ in their last bits, and round to other numbers of bfloat16 here and there.
                let tolerance = if bf16 { 4e-3 } else { 1e-5 };
                let tape = || Tape::recording().with_precision(precision);
                let inputs = |tape: &Tape<'_>| {
                    let bias = bias.map(|bias| tape.input(bias.clone()));
                    (tape.input(x.clone()), tape.input(weight.clone()), bias)
                };
                let check = |tape: Tape<'_>, output: &Var, (x_var, weight_var, bias_var): &(Var, Var, Option<Var>), plain: &Tensor, tolerance| {
                    let near = |ours: &Tensor, plain: &Tensor| assert_close(ours, plain, tolerance);
                    let gradients = tape.backward(output, gradient.clone())?;
                    let found = |var: &Var| gradients.input(var).ok_or(Error::MissingParameter("gradient".into()));
                    near(found(x_var)?, &reference::backward_input(precision, &weight, plain)?)?;
                    near(found(weight_var)?, &reference::backward_weight(precision, &x, plain)?)?;
                    bias_var.as_ref().map_or(Ok(()), |bias| near(found(bias)?, &reference::backward_bias(plain)?))
                };

                let (recording, plain_tape) = (tape(), Tape::inference().with_precision(precision));
                let vars = inputs(&recording);
                let ours = linear(&recording, &vars.0, &vars.1, vars.2.as_ref())?;
                near(ours.tensor(), &y)?;
                check(recording, &ours, &vars, &gradient, 1e-5)?;

                let recording = tape();
                let vars = inputs(&recording);
                let ours = linear_gelu(&recording, &vars.0, &vars.1, vars.2.as_ref())?;
                near(ours.tensor(), &reference::gelu(&y)?)?;
                let unrecorded = linear_gelu(&plain_tape, &vars.0, &vars.1, vars.2.as_ref())?;
                near(&unrecorded.tensor().to_dtype(DType::F32)?, &ours.tensor().to_dtype(unrecorded.tensor().dtype())?.to_dtype(DType::F32)?)?;
                check(recording, &ours, &vars, &reference::backward_gelu(&y, &gradient)?, tolerance)?;

                let (residual_var, gate_var) = (plain_tape.constant(residual.clone()), plain_tape.constant(gate.clone()));
                let plain = gated_residual(&plain_tape, &residual_var, &gate_var, &plain_tape.constant(y))?;
                let ours = linear_gated(&plain_tape, &vars.0, &vars.1, vars.2.as_ref(), &residual_var, &gate_var)?;
                near(ours.tensor(), plain.tensor())
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn gelu_is_right_far_from_zero() -> Result<()> {
        // The reference formulation loses digits where its tanh is close to −1.
        let x = (pseudo_random(&[300, 131], 1)? * 9.0)?;
        let (one, gradient) = (Tensor::eye(131, DType::F32, &Device::Cpu)?, pseudo_random(&[300, 131], 4)?);
        for result in with_each(|_| -> Result<()> {
            let tape = Tape::recording();
            let input = tape.input(x.clone());
            let y = linear_gelu(&tape, &input, &tape.constant(one.clone()), None)?;
            assert_close(y.tensor(), &reference::gelu(&x)?, 3e-6)?;
            let gradients = tape.backward(&y, gradient.clone())?;
            let found = gradients.input(&input).ok_or(Error::MissingParameter("gradient".into()))?;
            assert_close(found, &reference::backward_gelu(&x, &gradient)?, 3e-6)
        }) {
            result?;
        }
        Ok(())
    }

    #[test]
    fn packed_weights_are_used_again() -> Result<()> {
        undisturbed(|| {
            let (x, weight) = (pseudo_random(&[5, 7], 1)?, pseudo_random(&[3, 7], 2)?);
            let packed = PackedWeightCache::new();
            let run = || -> Result<Vec<f32>> {
                let tape = Tape::inference().with_packed_weight_cache(&packed);
                let y = linear(&tape, &tape.constant(x.clone()), &tape.parameter("w", &weight), None)?;
                // What is no parameter is another tensor each time, so it is not kept.
                linear(&tape, &tape.constant(x.clone()), &tape.constant(weight.copy()?), None)?;
                Ok(y.tensor().flatten_all()?.to_vec1()?)
            };
            let first = run()?;
            let size = packed.size();
            assert!(size > 0);
            assert_eq!((run()?, packed.size()), (first.clone(), size));
            // Proof that the packed weight is read: the weight itself may change.
            crate::add_assign(&weight, &weight.ones_like()?)?;
            assert_eq!(run()?, first);
            Ok(())
        })
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
