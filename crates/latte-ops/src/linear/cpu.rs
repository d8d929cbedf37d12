//! Bias and GELU on the CPU: one pass over the values, on all threads.

use candle_core::Tensor;
use rayon::prelude::*;

use super::reference::{CUBIC, SQRT_2_OVER_PI};
use crate::Result;
use crate::slices::{CHUNK, Values, with_slice_mut};
use crate::vectorised::{exp, vectorised};

/// Rows per piece of parallel work.
fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `y += bias` for each row of `y`, whose memory nothing else holds.
pub(super) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
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
    with_slice_mut(y, |y| {
        y.par_chunks_mut(task).for_each(|rows| add(rows, bias));
        Ok(())
    })
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
