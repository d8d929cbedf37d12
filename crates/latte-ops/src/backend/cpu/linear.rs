//! Linear layers and GELU on the CPU, on all threads. Bias, GELU, gate and residual are added to each block of a product
//! while it is in the cache.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::gemm::{Bias, Epilogue, Kernel, Matrix, Packed, Plain, multiply, multiply_to_pairs};
use crate::backend::cpu::operand::{Operands, readable};
use crate::backend::cpu::slices::{CHUNK, Values};
use crate::backend::cpu::vectorised::{exp, mul_add, vectorised};
use crate::backend::reference::linear::{CUBIC, SQRT_2_OVER_PI};
#[cfg(target_arch = "x86_64")]
use crate::{InstructionSet, backend::cpu::avx512};
use crate::{Precision, Result};

/// Rows and width of `[…, width]`.
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

/// `x · right`, `[…, width]`; rounded to bfloat16, which needs a kernel of pairs, if it is `for_products` and that is built.
fn product(x: &Tensor, right: &Packed, width: usize, epilogue: &impl Epilogue, for_products: bool) -> Result<Tensor> {
    let [rows, input] = rows(x);
    let x = readable(right.kernel.precision(), x, input)?;
    let (operands, shape) = (Operands::of(&x)?, with_width(&x, width));
    let left = operands.slice().rows(0, input);
    if for_products && let Some(y) = multiply_to_pairs(rows, left, right, epilogue) {
        return Ok(Tensor::from_vec(y, shape, x.device())?);
    }
    Ok(Tensor::from_vec(multiply(rows, left, right, epilogue), shape, x.device())?)
}

/// `x · weightᵀ + bias`, `[…, out]`, of the weight packed for the forward pass; `for_products` if only products read it.
pub(crate) fn forward(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, out: usize, for_products: bool) -> Result<Tensor> {
    let Some(bias) = bias else { return product(x, weight, out, &Plain, for_products) };
    let bias = bias.contiguous()?;
    product(x, weight, out, &Bias(&Values::of(&bias)?), for_products)
}

/// `gelu(x · weightᵀ + bias)`, `[…, out]`, and what went into GELU.
pub(crate) fn forward_gelu(x: &Tensor, weight: &Packed, bias: Option<&Tensor>, out: usize) -> Result<[Tensor; 2]> {
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
            // SAFETY: `activated` has as many rows of `width` values as the product, and each part of a row is applied once.
            let activated = unsafe { std::slice::from_raw_parts_mut(self.activated.get().add(start), values.len()) };
            gelu_values(activated, values);
        }
    }
    let mut activated = Unwritten::new(rows(x)[0] * out);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let epilogue = BiasGelu { bias: bias.as_deref(), activated: Shared::new(activated.as_mut_ptr()), width: out };
    let before = product(x, weight, out, &epilogue, false)?;
    // SAFETY: the epilogue was applied to all parts of all rows.
    let activated = unsafe { activated.written() };
    Ok([Tensor::from_vec(activated, before.dims(), before.device())?, before])
}

/// `gelu(x · weightᵀ + bias)`, `[…, out]`, where what went into GELU is not needed; `for_products` if only products read it.
pub(crate) fn forward_gelu_only(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    out: usize,
    for_products: bool,
) -> Result<Tensor> {
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
    product(x, weight, out, &epilogue, for_products)
}

/// `residual + gate · (x · weightᵀ + bias)`, `[…, out]`, where rows fall into equal groups that share a row of `gate` `[g, out]`.
pub(crate) fn forward_gated(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    residual: &Tensor,
    gate: &Tensor,
) -> Result<Tensor> {
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
    product(x, weight, out, &epilogue, false)
}

/// `gradient · weight`, `[…, in]`, of the weight packed for the backward pass.
pub(crate) fn backward_input(weight: &Packed, gradient: &Tensor, input: usize) -> Result<Tensor> {
    product(gradient, weight, input, &Plain, false)
}

/// `gradientᵀ · x`, `[out, in]`.
pub(crate) fn backward_weight(precision: Precision, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
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
    /// `total += ` each row.
    fn add_rows(total: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(total.len()) {
            for (t, v) in total.iter_mut().zip(row) {
                *t += v;
            }
        }
    }
}

/// The sum over rows, in a fixed order.
pub(crate) fn sum_rows(x: &Tensor, width: usize) -> Result<Tensor> {
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

/// ½(1 + tanh u), without the cancellation where tanh u is close to −1.
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
        // SAFETY: as many values of each; an instruction set is only ever one that the processor has.
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
    /// The gradient of what went into GELU, and of the bias before it, whose rows `bias` sums.
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

/// The gradients of what went into GELU, and of the bias before it.
pub(crate) fn backward_gelu(x: &Tensor, gradient: &Tensor) -> Result<[Tensor; 2]> {
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
