//! Sums on the CPU, on all threads, in f64: the squares of a channel with a large mean would not fit f32.

pub(crate) mod gradients;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Result;
use crate::backend::cpu::slices::{CHUNK, Values};
use crate::backend::cpu::vectorised::vectorised;

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
pub(crate) fn sums(x: &Tensor, places: usize, c: usize) -> Result<Vec<[f64; 2]>> {
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
