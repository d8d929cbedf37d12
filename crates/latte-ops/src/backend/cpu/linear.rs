//! Linear layers and GELU on the CPU, on all threads. Bias, GELU, gate and residual are applied to each block of a matmul while it
//! is in the cache.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::buffer::{Shared, Unwritten};
use super::gemm::{Bias, Epilogue, Kernel, Matrix, Packed, Plain, multiply, multiply_to_pairs};
use super::operand::{Operands, readable};
use super::packed_weight_cache::{self, Side};
use super::slices::{CHUNK, Values};
use super::vectorised::{exp, mul_add, vectorised};
use crate::backend::reference::linear::{CUBIC, SQRT_2_OVER_PI};
use crate::ops::linear::Linear;
use crate::tape::{Computed, Gradient};
#[cfg(target_arch = "x86_64")]
use crate::{InstructionSet, backend::cpu::avx512};
use crate::{PackedWeightCache, Precision, Result, Value, Var};

pub(super) fn linear(call: &Linear<'_>) -> Result<Computed<'static>> {
    let (x, bias) = (call.x.value().fetch()?, fetch(call.bias)?);
    let y = forward(&x, &*packed(call)?, bias.as_ref(), call.weight.dims()[0], rounds(call))?;
    let layer = Layer::new(call, x);
    Ok(Computed::new(y, move |gradient, wanted| layer.backward(&gradient.value.fetch()?, None, wanted)))
}

pub(super) fn linear_gelu(call: &Linear<'_>) -> Result<Computed<'static>> {
    let (x, bias, packed, out) = (call.x.value().fetch()?, fetch(call.bias)?, packed(call)?, call.weight.dims()[0]);
    if !call.context.recording {
        return Ok(Computed::without_gradient(forward_gelu_only(&x, &packed, bias.as_ref(), out, rounds(call))?));
    }
    let [y, before] = forward_gelu(&x, &packed, bias.as_ref(), out)?;
    let layer = Layer::new(call, x);
    Ok(Computed::new(y, move |gradient, wanted| {
        let [gradient, bias] = backward_gelu(&before, &gradient.value.fetch()?)?;
        layer.backward(&gradient, Some(bias), wanted)
    }))
}

pub(super) fn linear_gated(call: &Linear<'_>, residual: &Value, gate: &Value) -> Result<Value> {
    let (x, bias) = (call.x.value().fetch()?, fetch(call.bias)?);
    Ok(forward_gated(&x, &*packed(call)?, bias.as_ref(), &residual.fetch()?, &gate.fetch()?)?.into())
}

/// GELU without a matmul, with the same values as in [`linear_gelu`].
pub(super) fn gelu_alone(x: &Value) -> Result<Computed<'static>> {
    let x = x.fetch()?.contiguous()?;
    let y = {
        let values = Values::of(&x)?;
        let mut y = Unwritten::new(values.len());
        // SAFETY: `gelu_values` writes `y` before anything reads it.
        (unsafe { y.values_mut() }.par_chunks_mut(CHUNK), values.par_chunks(CHUNK))
            .into_par_iter()
            .for_each(|(y, x)| gelu_values(y, x));
        // SAFETY: the pieces cover all values, and each was written.
        Tensor::from_vec(unsafe { y.written() }, x.dims(), x.device())?
    };
    Ok(Computed::new(y, move |gradient, _| {
        let [dx, _] = backward_gelu(&x, &gradient.value.fetch()?)?;
        Ok(vec![Some(Gradient::owned(dx))])
    }))
}

fn fetch(bias: Option<&Var>) -> Result<Option<Tensor>> {
    bias.map(|bias| bias.value().fetch()).transpose()
}

/// Whether the result is kept as words of pairs.
fn rounds(call: &Linear<'_>) -> bool {
    call.low_precision && call.context.keeps_pairs()
}

/// The weight packed for the forward pass.
fn packed(call: &Linear<'_>) -> Result<Arc<Packed>> {
    let kernel = Kernel::of(call.context.precision);
    packed_weight_cache::packed(call.context.packed_weights, call.weight, Side::Forward, kernel)
}

/// The saved values for the backward pass of a linear layer.
struct Layer {
    precision: Precision,
    packed_weights: Option<PackedWeightCache>,
    x: Tensor,
    weight: Var,
}

impl Layer {
    fn new(call: &Linear<'_>, x: Tensor) -> Self {
        let packed_weights = call.context.packed_weights.cloned();
        Self { precision: call.context.precision, packed_weights, x, weight: call.weight.clone() }
    }

    /// The gradients of input, weight and bias from the output's; `bias` is the bias's gradient if it is known already.
    fn backward(&self, gradient: &Tensor, bias: Option<Tensor>, wanted: &[bool]) -> Result<Vec<Option<Gradient>>> {
        let mut found = Vec::with_capacity(wanted.len());
        found.push(if wanted[0] { Some(Gradient::owned(self.backward_input(gradient)?)) } else { None });
        let wants_weight = wanted[1];
        found.push(if wants_weight { Some(Gradient::owned(backward_weight(self.precision, &self.x, gradient)?)) } else { None });
        if wanted.get(2).copied().unwrap_or_default() {
            let width = self.weight.dims()[0];
            found.push(Some(Gradient::owned(bias.map_or_else(|| sum_rows(gradient, width), Ok)?)));
        }
        Ok(found)
    }

    fn backward_input(&self, gradient: &Tensor) -> Result<Tensor> {
        let kernel = Kernel::of(self.precision);
        let weight = packed_weight_cache::packed(self.packed_weights.as_ref(), &self.weight, Side::Backward, kernel)?;
        backward_input(&weight, gradient, self.weight.dims()[1])
    }
}

/// The number of rows, and the width, of `[…, width]`.
fn rows(x: &Tensor) -> [usize; 2] {
    let width = x.dims().last().copied().unwrap_or(1);
    [x.elem_count() / width.max(1), width]
}

/// The shape of `x` with another last axis.
fn with_width(x: &Tensor, width: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}

/// `x · right`, `[…, width]`; rounded to bfloat16, which needs a kernel of pairs, if `low_precision` is set and the kernel supports
/// it.
fn matmul(x: &Tensor, right: &Packed, width: usize, epilogue: &impl Epilogue, low_precision: bool) -> Result<Tensor> {
    let [rows, input] = rows(x);
    let x = readable(right.kernel.precision(), x, input)?;
    let (operands, shape) = (Operands::of(&x)?, with_width(&x, width));
    let left = operands.slice().rows(0, input);
    if low_precision && let Some(y) = multiply_to_pairs(rows, left, right, epilogue) {
        return Ok(Tensor::from_vec(y, shape, x.device())?);
    }
    Ok(Tensor::from_vec(multiply(rows, left, right, epilogue), shape, x.device())?)
}

/// `x · weightᵀ + bias`, `[…, out]`, with the weight packed for the forward pass; `low_precision` if only matmuls read it.
fn forward(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, out: usize, low_precision: bool) -> Result<Tensor> {
    let Some(bias) = bias else { return matmul(x, weight, out, &Plain, low_precision) };
    let bias = bias.contiguous()?;
    matmul(x, weight, out, &Bias(&Values::of(&bias)?), low_precision)
}

/// `gelu(x · weightᵀ + bias)`, `[…, out]`, and the input of GELU.
fn forward_gelu(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, out: usize) -> Result<[Tensor; 2]> {
    struct BiasGelu<'b> {
        bias: Option<&'b [f32]>,
        activated: Shared<f32>,
        width: usize,
    }
    impl Epilogue for BiasGelu<'_> {
        fn apply(&self, row: usize, columns: Range<usize>, values: &mut [f32]) {
            if let Some(bias) = self.bias {
                Bias(bias).apply(row, columns.clone(), values);
            }
            let start = row * self.width + columns.start;
            // SAFETY: `activated` has as many rows of `width` values as the matmul, and each part of a row is applied once.
            let activated = unsafe { std::slice::from_raw_parts_mut(self.activated.get().add(start), values.len()) };
            gelu_values(activated, values);
        }
    }
    let mut activated = Unwritten::new(rows(x)[0] * out);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let epilogue = BiasGelu { bias: bias.as_deref(), activated: Shared::new(activated.as_mut_ptr()), width: out };
    let before = matmul(x, weight, out, &epilogue, false)?;
    // SAFETY: the epilogue was applied to all parts of all rows.
    let activated = unsafe { activated.written() };
    Ok([Tensor::from_vec(activated, before.dims(), before.device())?, before])
}

/// `gelu(x · weightᵀ + bias)`, `[…, out]`, without the input of GELU; `low_precision` if only matmuls read it.
fn forward_gelu_only(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, out: usize, low_precision: bool) -> Result<Tensor> {
    struct BiasGelu<'b>(&'b [f32]);
    impl Epilogue for BiasGelu<'_> {
        fn apply(&self, _: usize, columns: Range<usize>, values: &mut [f32]) {
            biased_gelu_in_place(values, &self.0[columns]);
        }
    }
    let zeros = if bias.is_none() { vec![0.0; out] } else { Vec::new() };
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let epilogue = BiasGelu(bias.as_deref().unwrap_or(&zeros));
    matmul(x, weight, out, &epilogue, low_precision)
}

/// `residual + gate · (x · weightᵀ + bias)`, `[…, out]`; the rows form equal groups that share a row of `gate` `[g, out]`.
fn forward_gated(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, residual: &Tensor, gate: &Tensor) -> Result<Tensor> {
    struct Gated<'b> {
        bias: &'b [f32],
        residual: &'b [f32],
        gate: &'b [f32],
        rows_per_group: usize,
        width: usize,
    }
    impl Epilogue for Gated<'_> {
        fn apply(&self, row: usize, columns: Range<usize>, values: &mut [f32]) {
            let residual = &self.residual[row * self.width..][columns.clone()];
            let gate = &self.gate[row / self.rows_per_group * self.width..][columns.clone()];
            gated(values, &self.bias[columns], gate, residual);
        }
    }
    let (groups, out) = gate.dims2()?;
    let zeros = if bias.is_none() { vec![0.0; out] } else { Vec::new() };
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let (residual, gate) = (residual.contiguous()?, gate.contiguous()?);
    let epilogue = Gated {
        bias: bias.as_deref().unwrap_or(&zeros),
        residual: &Values::of(&residual)?,
        gate: &Values::of(&gate)?,
        rows_per_group: rows(x)[0] / groups,
        width: out,
    };
    matmul(x, weight, out, &epilogue, false)
}

/// `gradient · weight`, `[…, in]`, with the weight packed for the backward pass.
fn backward_input(weight: &Packed, gradient: &Tensor, input: usize) -> Result<Tensor> {
    matmul(gradient, weight, input, &Plain, false)
}

/// `gradientᵀ · x`, `[out, in]`.
fn backward_weight(precision: Precision, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (x, gradient) = (x.contiguous()?, gradient.contiguous()?);
    let ([rows, input], [_, out]) = (rows(&x), rows(&gradient));
    let packed = Packed::new(Kernel::of(precision), Matrix::rows(&Values::of(&x)?, input), rows, input);
    let dw = multiply(out, Matrix::rows(&Values::of(&gradient)?, out).transposed(), &packed, &Plain);
    Ok(Tensor::from_vec(dw, (out, input), x.device())?)
}

/// Rows per piece of parallel work.
fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

vectorised! {
    /// Adds each row to `total`.
    fn add_rows(total: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(total.len()) {
            for (t, v) in total.iter_mut().zip(row) {
                *t += v;
            }
        }
    }
}

/// The sum over rows, in a fixed order.
fn sum_rows(x: &Tensor, width: usize) -> Result<Tensor> {
    let x = x.contiguous()?;
    let values = Values::of(&x)?;
    let parts: Vec<Vec<f32>> = values
        .par_chunks(rows_per_task(width) * width)
        .map(|rows| {
            let mut total = vec![0.0; width];
            add_rows(&mut total, rows);
            total
        })
        .collect();
    Ok(Tensor::from_vec(sum_parts(&parts, width), width, x.device())?)
}

fn sum_parts(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in parts {
        add_rows(&mut total, part);
    }
    total
}

/// ½(1 + tanh u), without cancellation where tanh u is close to −1.
#[inline(always)]
fn half_one_plus_tanh<const FUSED: bool>(u: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-2.0 * u))
}

const A: f32 = SQRT_2_OVER_PI as f32;
const B: f32 = (SQRT_2_OVER_PI * CUBIC) as f32;

#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    x * half_one_plus_tanh::<FUSED>(x * mul_add::<FUSED>(B * x, x, A))
}

/// `y = gelu(x)`.
fn gelu_values(y: &mut [f32], x: &[f32]) {
    vectorised! {
        fn any(y: &mut [f32], x: &[f32]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = gelu::<FUSED>(x);
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if InstructionSet::current() >= InstructionSet::Avx512 {
        assert_eq!(y.len(), x.len());
        // SAFETY: as many values of each; the instruction set in use is always one that the processor has.
        unsafe { avx512::gelu(y.as_mut_ptr(), x.as_ptr(), None, x.len(), 2.0 * A, 2.0 * B) };
        return;
    }
    any(y, x);
}

/// `x = gelu(x + bias)`.
fn biased_gelu_in_place(x: &mut [f32], bias: &[f32]) {
    vectorised! {
        fn any(x: &mut [f32], bias: &[f32]) {
            for (x, bias) in x.iter_mut().zip(bias) {
                *x = gelu::<FUSED>(*x + bias);
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if InstructionSet::current() >= InstructionSet::Avx512 {
        assert_eq!(x.len(), bias.len());
        // SAFETY: as above.
        unsafe { avx512::gelu(x.as_mut_ptr(), x.as_ptr(), Some(bias), x.len(), 2.0 * A, 2.0 * B) };
        return;
    }
    any(x, bias);
}

vectorised! {
    fn gated(values: &mut [f32], bias: &[f32], gate: &[f32], residual: &[f32]) {
        for (((value, bias), gate), residual) in values.iter_mut().zip(bias).zip(gate).zip(residual) {
            *value = residual + gate * (*value + bias);
        }
    }
}

vectorised! {
    /// Writes the gradient of GELU's input to `dx`, and adds its rows to `bias`.
    fn backward_gelu_rows(dx: &mut [f32], x: &[f32], gradient: &[f32], bias: &mut [f32]) {
        let d = bias.len();
        for ((dx, x), gradient) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(gradient.chunks_exact(d)) {
            for (((dx, &x), g), bias) in dx.iter_mut().zip(x).zip(gradient).zip(bias.iter_mut()) {
                let s = half_one_plus_tanh::<FUSED>(x * (A + B * x * x));
                *dx = g * (s + 2.0 * x * s * (1.0 - s) * (A + 3.0 * B * x * x));
                *bias += *dx;
            }
        }
    }
}

/// The gradients of GELU's input, and of the bias before GELU.
fn backward_gelu(x: &Tensor, gradient: &Tensor) -> Result<[Tensor; 2]> {
    let gradient = gradient.contiguous()?;
    let [_, width] = rows(x);
    let (values, gradient) = (Values::of(x)?, Values::of(&gradient)?);
    let mut dx = Unwritten::new(values.len());
    let task = rows_per_task(width) * width;
    // SAFETY: `backward_gelu_rows` writes `dx` before it reads it.
    let parts: Vec<Vec<f32>> =
        (unsafe { dx.values_mut() }.par_chunks_mut(task), values.par_chunks(task), gradient.par_chunks(task))
            .into_par_iter()
            .map(|(dx, x, gradient)| {
                let mut bias = vec![0.0; width];
                backward_gelu_rows(dx, x, gradient, &mut bias);
                bias
            })
            .collect();
    // SAFETY: the pieces cover all values, and each was written.
    let dx = unsafe { dx.written() };
    Ok([Tensor::from_vec(dx, x.dims(), x.device())?, Tensor::from_vec(sum_parts(&parts, width), width, x.device())?])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use proptest::prelude::*;

    use crate::backend::cpu::instruction_set::tests::{undisturbed, with_each};
    use crate::backend::reference::linear as reference;
    use crate::finite_difference::{assert_close, pseudo_random};
    use crate::{Error, PackedWeightCache, Precision, Result, Tape, Var, gated_residual, linear, linear_gated, linear_gelu};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn kernels_agree_with_the_reference(
            // Rows and widths that fit no vector, and sometimes more than one piece of parallel work.
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
                let near = |ours: &Tensor, expected: &Tensor| assert_close(ours, expected, 1e-5);
                // GELU's results differ in their last bits, so a few operands of the next matmul round to other bfloat16 values.
                let tolerance = if bf16 { 4e-3 } else { 1e-5 };
                let tape = || Tape::recording().with_precision(precision);
                let inputs = |tape: &Tape<'_>| {
                    let bias = bias.map(|bias| tape.input(bias.clone()));
                    (tape.input(x.clone()), tape.input(weight.clone()), bias)
                };
                let check = |tape: Tape<'_>, output: &Var, (x_var, weight_var, bias_var): &(Var, Var, Option<Var>), expected: &Tensor, tolerance| {
                    let near = |ours: &Tensor, expected: &Tensor| assert_close(ours, expected, tolerance);
                    let gradients = tape.backward(output, &gradient)?;
                    let found = |var: &Var| gradients.input(var).ok_or(Error::MissingParameter("gradient".into()))?.to_host();
                    near(&found(x_var)?, &reference::backward_input(precision, &weight, expected)?)?;
                    near(&found(weight_var)?, &reference::backward_weight(precision, &x, expected)?)?;
                    bias_var.as_ref().map_or(Ok(()), |bias| near(&found(bias)?, &reference::backward_bias(expected)?))
                };

                let (recording, reference_tape) = (tape(), Tape::inference().with_precision(precision));
                let vars = inputs(&recording);
                let ours = linear(&recording, &vars.0, &vars.1, vars.2.as_ref())?;
                near(&ours.to_host()?, &y)?;
                check(recording, &ours, &vars, &gradient, 1e-5)?;

                let recording = tape();
                let vars = inputs(&recording);
                let ours = linear_gelu(&recording, &vars.0, &vars.1, vars.2.as_ref())?;
                near(&ours.to_host()?, &reference::gelu(&y)?)?;
                let unrecorded = linear_gelu(&reference_tape, &vars.0, &vars.1, vars.2.as_ref())?;
                near(&unrecorded.to_host()?.to_dtype(DType::F32)?, &ours.to_host()?.to_dtype(unrecorded.to_host()?.dtype())?.to_dtype(DType::F32)?)?;
                check(recording, &ours, &vars, &reference::backward_gelu(&y, &gradient)?, tolerance)?;

                let (residual_var, gate_var) = (reference_tape.constant(residual.clone()), reference_tape.constant(gate.clone()));
                let expected = gated_residual(&reference_tape, &residual_var, &gate_var, &reference_tape.constant(y))?;
                let ours = linear_gated(&reference_tape, &vars.0, &vars.1, vars.2.as_ref(), &residual_var, &gate_var)?;
                near(&ours.to_host()?, &expected.to_host()?)
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
            assert_close(&y.to_host()?, &reference::gelu(&x)?, 3e-6)?;
            let gradients = tape.backward(&y, &gradient)?;
            let found = gradients.input(&input).ok_or(Error::MissingParameter("gradient".into()))?;
            assert_close(&found.to_host()?, &reference::backward_gelu(&x, &gradient)?, 3e-6)
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
                // A constant is a new tensor each time, so its packed form is not cached.
                linear(&tape, &tape.constant(x.clone()), &tape.constant(weight.copy()?), None)?;
                Ok(y.to_host()?.flatten_all()?.to_vec1()?)
            };
            let first = run()?;
            let size = packed.size();
            assert!(size > 0);
            assert_eq!((run()?, packed.size()), (first.clone(), size));
            // The weight itself changes here, which proves that the packed weight is read.
            crate::add_assign(&(&weight).into(), &weight.ones_like()?.into())?;
            assert_eq!(run()?, first);
            Ok(())
        })
    }
}
