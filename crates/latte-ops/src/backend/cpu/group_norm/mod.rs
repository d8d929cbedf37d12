//! Group norms on the CPU, on all threads. Sums are f64, because the squares of a channel with a large mean would lose the variance
//! in f32.

mod gradients;

use candle_core::Tensor;
use rayon::prelude::*;

use super::slices::{CHUNK, Values};
use super::vectorised::vectorised;
use crate::ops::group_norm::Grouped;
use crate::tape::{Computed, Gradient};
use crate::{Normalisation, Result, Value};
use gradients::Norm;

pub(super) fn group_sums(x: &Value) -> Result<Vec<[f64; 2]>> {
    let x = x.fetch()?.contiguous()?;
    let &[images, .., c] = x.dims() else { unreachable!("images have channels") };
    sums(&x, x.elem_count() / images / c, c)
}

pub(super) fn group_norm(call: Grouped<'_>) -> Result<Computed<'static>> {
    let x = call.x.fetch()?.contiguous()?;
    let (weight, bias, groups, silu) = (call.weight().to_vec(), call.bias().to_vec(), call.groups(), call.silu);
    let layer = Layer { statistics: call.statistics, weight, bias, groups, silu };
    let y = Tensor::from_vec(gradients::forward(&Values::of(&x)?, layer.norm()), x.dims(), x.device())?;
    Ok(Computed::new(y, move |gradient, _| {
        let gradient = gradient.value.fetch()?.contiguous()?;
        let [dx, dweight, dbias] = gradients::backward(&Values::of(&x)?, &Values::of(&gradient)?, layer.norm());
        let c = dweight.len();
        let owned = |values: Vec<f32>, dims: &[usize]| {
            Ok::<_, crate::Error>(Some(Gradient::owned(Tensor::from_vec(values, dims, x.device())?)))
        };
        Ok(vec![owned(dx, x.dims())?, owned(dweight, &[c])?, owned(dbias, &[c])?])
    }))
}

/// The saved values for the backward pass, besides `x`.
struct Layer {
    statistics: Normalisation,
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    silu: bool,
}

impl Layer {
    fn norm(&self) -> Norm<'_> {
        let Self { statistics, weight, bias, groups, silu } = self;
        Norm { statistics, weight, bias, groups: *groups, silu: *silu }
    }
}

vectorised! {
    /// Adds each row's values and their squares to `sums` and `squares`.
    fn add_rows(sums: &mut [f64], squares: &mut [f64], rows: &[f32]) {
        let c = sums.len();
        let squares = &mut squares[..c];
        for row in rows.chunks_exact(c) {
            for i in 0..c {
                let value = f64::from(row[i]);
                sums[i] += value;
                squares[i] += value * value;
            }
        }
    }
}

/// Sum and sum of squares of each channel `[n, c]`, in a fixed order.
fn sums(x: &Tensor, places: usize, c: usize) -> Result<Vec<[f64; 2]>> {
    let values = Values::of(x)?;
    let values: &[f32] = &values;
    let task = (4 * CHUNK / c).max(1) * c;
    let parts_per_image = (places * c).div_ceil(task);
    let parts: Vec<[Vec<f64>; 2]> = values
        .par_chunks(places * c)
        .flat_map(|image| image.par_chunks(task))
        .map(|rows| {
            let [mut sums, mut squares] = [vec![0.0; c], vec![0.0; c]];
            add_rows(&mut sums, &mut squares, rows);
            [sums, squares]
        })
        .collect();
    let mut totals = vec![[0.0; 2]; values.len() / places];
    for (part, [sums, squares]) in parts.iter().enumerate() {
        let total = &mut totals[part / parts_per_image * c..][..c];
        for ((t, sum), square) in total.iter_mut().zip(sums).zip(squares) {
            *t = [t[0] + sum, t[1] + square];
        }
    }
    Ok(totals)
}
