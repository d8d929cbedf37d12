//! The CPU kernels: one pass over the rows forward and one backward, on all threads. They save mean and 1/std of each row, not the
//! normalised rows.

use candle_core::Tensor;
use half::bf16;

use crate::backend::cpu::buffer::Unwritten;
use crate::backend::cpu::gemm::round_row;
use crate::backend::cpu::row_groups::RowGroups;
use crate::backend::cpu::slices::Values;
use crate::backend::cpu::vectorised::{sum, vectorised};
use crate::tape::{Computed, Context, Gradient};
use crate::{Result, Value};

pub(super) fn modulated_layer_norm(
    context: Context<'_>,
    x: &Value,
    shift: &Value,
    scale: &Value,
    eps: f64,
) -> Result<Computed<'static>> {
    let (x, shift, scale) = (x.fetch()?, shift.fetch()?, scale.fetch()?);
    if context.keeps_pairs() {
        return Ok(Computed::without_gradient(forward_to_pairs(&x, &shift, &scale, eps)?));
    }
    let (y, saved) = forward(&x, &shift, &scale, eps)?;
    Ok(Computed::new(y, move |gradient, _| {
        let found = backward(&saved, &scale, &gradient.value.fetch()?)?;
        Ok(found.map(|tensor| Some(Gradient::owned(tensor))).into())
    }))
}

/// The saved values for the backward pass.
struct Saved {
    x: Tensor,
    /// Mean and 1/√(variance + eps) of each row.
    statistics: Vec<[f32; 2]>,
}

vectorised! {
    /// Normalises and modulates rows that share `shift` and `scale`.
    fn forward_rows(y: &mut [f32], x: &[f32], shift: &[f32], scale: &[f32], eps: f32, statistics: &mut Vec<[f32; 2]>) {
        let d = shift.len();
        let inverse_d = 1.0 / d as f32;
        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let mean = sum(d, |i| x[i]) * inverse_d;
            let variance = sum(d, |i| (x[i] - mean) * (x[i] - mean)) * inverse_d;
            let inverse_std = 1.0 / (variance + eps).sqrt();
            statistics.push([mean, inverse_std]);
            for i in 0..d {
                y[i] = (x[i] - mean) * inverse_std * (1.0 + scale[i]) + shift[i];
            }
        }
    }
}

vectorised! {
    /// Writes the gradient of the rows to `dx` and adds to the gradients of shift and scale.
    fn backward_rows(
        dx: &mut [f32],
        x: &[f32],
        gradient: &[f32],
        scale: &[f32],
        statistics: &[[f32; 2]],
        dshift: &mut [f32],
        dscale: &mut [f32],
    ) {
        let d = scale.len();
        let inverse_d = 1.0 / d as f32;
        let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(gradient.chunks_exact(d)).zip(statistics);
        for (((dx, x), gradient), &[mean, inverse_std]) in rows {
            let (x, gradient, scale) = (&x[..d], &gradient[..d], &scale[..d]);
            let average = sum(d, |i| gradient[i] * (1.0 + scale[i])) * inverse_d;
            let projection = sum(d, |i| gradient[i] * (1.0 + scale[i]) * (x[i] - mean)) * inverse_std * inverse_d;
            for i in 0..d {
                let normal = (x[i] - mean) * inverse_std;
                dx[i] = (gradient[i] * (1.0 + scale[i]) - average - normal * projection) * inverse_std;
                dshift[i] += gradient[i];
                dscale[i] += gradient[i] * normal;
            }
        }
    }
}

fn forward(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<(Tensor, Saved)> {
    let (groups, d) = scale.dims2()?;
    let (x, shift, scale) = (x.contiguous()?, shift.contiguous()?, scale.contiguous()?);
    let (x_values, shift, scale) = (Values::of(&x)?, Values::of(&shift)?, Values::of(&scale)?);
    let (x_values, shift, scale): (&[f32], &[f32], &[f32]) = (&x_values, &shift, &scale);
    let mut y = Unwritten::new(x_values.len());
    // SAFETY: `forward_rows` only writes `y`.
    let statistics = RowGroups::of(x_values.len(), groups, d).each_mut(unsafe { y.values_mut() }, |piece, y| {
        let mut statistics = Vec::with_capacity(y.len() / d);
        let vector = piece.group * d..(piece.group + 1) * d;
        let x = &x_values[piece.first_row * d..][..y.len()];
        forward_rows(y, x, &shift[vector.clone()], &scale[vector], eps as f32, &mut statistics);
        statistics
    });
    // SAFETY: the pieces are all rows, and each was written.
    let y = Tensor::from_vec(unsafe { y.written() }, x.dims(), x.device())?;
    Ok((y, Saved { x: x.clone(), statistics: statistics.concat() }))
}

/// [`forward`] with a result that is rounded to bfloat16 in the same way as by a matmul with a kernel of pairs.
fn forward_to_pairs(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    let (groups, d) = scale.dims2()?;
    let (x, shift, scale) = (x.contiguous()?, shift.contiguous()?, scale.contiguous()?);
    let (x_values, shift, scale) = (Values::of(&x)?, Values::of(&shift)?, Values::of(&scale)?);
    let (x_values, shift, scale): (&[f32], &[f32], &[f32]) = (&x_values, &shift, &scale);
    let mut y = Unwritten::<bf16>::new(x_values.len());
    // SAFETY: `round_row` only writes `y`.
    RowGroups::of(x_values.len(), groups, d).each_mut(unsafe { y.values_mut() }, |piece, y| {
        let (mut row, mut statistics) = (vec![0.0; d], Vec::with_capacity(1));
        let vector = piece.group * d..(piece.group + 1) * d;
        let (shift, scale) = (&shift[vector.clone()], &scale[vector]);
        for (y, x) in y.chunks_exact_mut(d).zip(x_values[piece.first_row * d..].chunks_exact(d)) {
            statistics.clear();
            forward_rows(&mut row, x, shift, scale, eps as f32, &mut statistics);
            // SAFETY: `y` has as many values, and the caller has a kernel of pairs.
            unsafe { round_row(y.as_mut_ptr(), &row) };
        }
    });
    // SAFETY: the pieces are all rows, and each was written.
    Ok(Tensor::from_vec(unsafe { y.written() }, x.dims(), x.device())?)
}

/// The gradients of `x`, `shift` and `scale`.
fn backward(saved: &Saved, scale: &Tensor, gradient: &Tensor) -> Result<[Tensor; 3]> {
    let (groups, d) = scale.dims2()?;
    let (scale, gradient) = (scale.contiguous()?, gradient.contiguous()?);
    let (x, scale_values, gradient) = (Values::of(&saved.x)?, Values::of(&scale)?, Values::of(&gradient)?);
    let (x, scale_values, gradient): (&[f32], &[f32], &[f32]) = (&x, &scale_values, &gradient);
    let mut dx = Unwritten::new(x.len());
    let layout = RowGroups::of(x.len(), groups, d);
    // SAFETY: `backward_rows` only writes `dx`.
    let sums = layout.each_mut(unsafe { dx.values_mut() }, |piece, dx| {
        let (mut dshift, mut dscale) = (vec![0.0; d], vec![0.0; d]);
        let rows = piece.first_row * d..piece.first_row * d + dx.len();
        let statistics = &saved.statistics[piece.first_row..][..dx.len() / d];
        let scale = &scale_values[piece.group * d..][..d];
        backward_rows(dx, &x[rows.clone()], &gradient[rows], scale, statistics, &mut dshift, &mut dscale);
        [dshift, dscale]
    });
    let vector = |which: usize| layout.sums(sums.iter().map(|s| s[which].as_slice()));
    let device = saved.x.device();
    Ok([
        // SAFETY: the pieces are all rows, and each was written.
        Tensor::from_vec(unsafe { dx.written() }, saved.x.dims(), device)?,
        Tensor::from_vec(vector(0), (groups, d), device)?,
        Tensor::from_vec(vector(1), (groups, d), device)?,
    ])
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use proptest::prelude::*;

    use crate::Result;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::backend::reference::modulated_layer_norm as reference;
    use crate::finite_difference::{assert_close, assert_close_at, pseudo_random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn kernels_agree_with_the_reference(
            (groups, rows, many, d) in (1usize..5, 1usize..60, 0usize..4, 2usize..140),
            transposed in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let rows = if many == 0 { rows + 300 } else { rows };
            let run = || -> Result<()> {
                let x = ((pseudo_random(&[groups, rows, d], seed)? * 3.0)? + 0.5)?;
                let (shift, scale) = (pseudo_random(&[groups, d], seed ^ 1)?, pseudo_random(&[groups, d], seed ^ 2)?);
                let gradient = pseudo_random(&[groups, rows, d], seed ^ 3)?;
                // The same values with other strides.
                let strided = |t: &Tensor| if transposed { t.transpose(0, 1)?.contiguous()?.transpose(0, 1) } else { Ok(t.clone()) };
                let (ours, saved) = super::forward(&strided(&x)?, &strided(&shift)?, &strided(&scale)?, 1e-6)?;
                let (expected, reference_saved) = reference::forward(&x, &shift, &scale, 1e-6)?;
                assert_close(&ours, &expected, 1e-5)?;
                let expected = reference::backward(&reference_saved, &scale, &gradient)?;
                // Terms of about 1 (in the gradient of x, of about 1/std) may cancel: the gradient of a row of two values is 0.
                let largest = |t: &Tensor| Result::Ok(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?);
                let deviations = x.broadcast_sub(&x.mean_keepdim(2)?)?.sqr()?.mean_keepdim(2)?;
                let terms = [largest(&(deviations + 1e-6)?.powf(-0.5)?)?, 1.0, 1.0];
                let ours = super::backward(&saved, &scale, &strided(&gradient)?)?;
                for ((ours, expected), terms) in ours.iter().zip(&expected).zip(terms) {
                    assert_close_at(ours, expected, 5e-5, f64::from(largest(expected)?.max(terms)))?;
                }
                Ok(())
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
