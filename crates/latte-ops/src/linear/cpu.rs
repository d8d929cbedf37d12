//! Linear layers and GELU on the CPU, on all threads.

use candle_core::Tensor;
use rayon::prelude::*;

use super::reference::{CUBIC, SQRT_2_OVER_PI};
use crate::gemm::{Matrix, Threads, multiply};
use crate::slices::{CHUNK, Values};
use crate::vectorised::{exp, vectorised};
use crate::{Precision, Result};

/// `[…, width]` as a matrix of rows, rounded to the precision: the values, and how many rows and columns.
fn operand(precision: Precision, x: &Tensor) -> Result<(Tensor, [usize; 2])> {
    let x = precision.operand(x)?.contiguous()?;
    let width = x.dims().last().copied().unwrap_or(1);
    let rows = x.elem_count() / width.max(1);
    Ok((x, [rows, width]))
}

/// The shape of `x` with another last axis.
fn with_width(x: &Tensor, width: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}

/// `x · weightᵀ + bias`, `[…, out]`.
pub(super) fn forward(precision: Precision, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x_rows, [rows, input]) = operand(precision, x)?;
    let (weight, [out, _]) = operand(precision, weight)?;
    let mut y = vec![0.0; rows * out];
    let (a, b) = (Values::of(&x_rows)?, Values::of(&weight)?);
    multiply(&mut y, [rows, input, out], Matrix::rows(&a, input), Matrix::rows(&b, input).transposed(), 1.0, Threads::All);
    if let Some(bias) = bias {
        add_bias(&mut y, bias)?;
    }
    Ok(Tensor::from_vec(y, with_width(x, out), x.device())?)
}

/// `gradient · weight`, `[…, in]`.
pub(super) fn backward_input(precision: Precision, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (gradient_rows, [rows, out]) = operand(precision, gradient)?;
    let (weight, [_, input]) = operand(precision, weight)?;
    let mut dx = vec![0.0; rows * input];
    let (a, b) = (Values::of(&gradient_rows)?, Values::of(&weight)?);
    multiply(&mut dx, [rows, out, input], Matrix::rows(&a, out), Matrix::rows(&b, input), 1.0, Threads::All);
    Ok(Tensor::from_vec(dx, with_width(gradient, input), gradient.device())?)
}

/// `gradientᵀ · x`, `[out, in]`.
pub(super) fn backward_weight(precision: Precision, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (gradient, [rows, out]) = operand(precision, gradient)?;
    let (x, [_, input]) = operand(precision, x)?;
    let mut dw = vec![0.0; out * input];
    let (a, b) = (Values::of(&gradient)?, Values::of(&x)?);
    multiply(&mut dw, [out, rows, input], Matrix::rows(&a, out).transposed(), Matrix::rows(&b, input), 1.0, Threads::All);
    Ok(Tensor::from_vec(dw, (out, input), x.device())?)
}

/// Rows per piece of parallel work.
fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `y += bias` for each row of `y`.
fn add_bias(y: &mut [f32], bias: &Tensor) -> Result<()> {
    vectorised! {
        fn add(rows: &mut [f32], bias: &[f32]) {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        }
    }
    let bias = bias.contiguous()?;
    let bias = Values::of(&bias)?;
    let bias: &[f32] = &bias;
    let task = rows_per_task(bias.len()) * bias.len();
    y.par_chunks_mut(task).for_each(|rows| add(rows, bias));
    Ok(())
}

/// The sum over rows, in a fixed order.
pub(super) fn sum_rows(x: &Tensor, width: usize) -> Result<Tensor> {
    vectorised! {
        fn add(total: &mut [f32], rows: &[f32]) {
            for row in rows.chunks_exact(total.len()) {
                for (t, v) in total.iter_mut().zip(row) {
                    *t += v;
                }
            }
        }
    }
    let x = x.contiguous()?;
    let values = Values::of(&x)?;
    let parts: Vec<Vec<f32>> = values
        .par_chunks(rows_per_task(width) * width)
        .map(|rows| {
            let mut total = vec![0.0; width];
            add(&mut total, rows);
            total
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in &parts {
        add(&mut total, part);
    }
    Ok(Tensor::from_vec(total, width, x.device())?)
}

/// ½(1 + tanh u), without the cancellation where tanh u is close to −1.
#[inline(always)]
fn half_one_plus_tanh(u: f32) -> f32 {
    1.0 / (1.0 + exp(-2.0 * u))
}

/// GELU with the tanh approximation.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    vectorised! {
        fn run(y: &mut [f32], x: &[f32]) {
            const A: f32 = SQRT_2_OVER_PI as f32;
            const B: f32 = (SQRT_2_OVER_PI * CUBIC) as f32;
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * half_one_plus_tanh(x * (A + B * x * x));
            }
        }
    }
    let values = Values::of(x)?;
    let mut y = vec![0.0; values.len()];
    y.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(y, x)| run(y, x));
    Ok(Tensor::from_vec(y, x.dims(), x.device())?)
}

/// The gradient of `x`.
pub(super) fn backward_gelu(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    vectorised! {
        fn run(dx: &mut [f32], x: &[f32], gradient: &[f32]) {
            const A: f32 = SQRT_2_OVER_PI as f32;
            const B: f32 = (SQRT_2_OVER_PI * CUBIC) as f32;
            for ((dx, &x), g) in dx.iter_mut().zip(x).zip(gradient) {
                let s = half_one_plus_tanh(x * (A + B * x * x));
                *dx = g * (s + 2.0 * x * s * (1.0 - s) * (A + 3.0 * B * x * x));
            }
        }
    }
    let gradient = gradient.contiguous()?;
    let (values, gradient) = (Values::of(x)?, Values::of(&gradient)?);
    let mut dx = vec![0.0; values.len()];
    (dx.par_chunks_mut(CHUNK), values.par_chunks(CHUNK), gradient.par_chunks(CHUNK))
        .into_par_iter()
        .for_each(|(dx, x, gradient)| run(dx, x, gradient));
    Ok(Tensor::from_vec(dx, x.dims(), x.device())?)
}
