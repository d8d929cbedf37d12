//! The CPU kernels: one pass over the rows forward and one backward, on all threads.

use candle_core::Tensor;

use crate::backend::cpu::buffer::Unwritten;
use crate::backend::cpu::row_groups::RowGroups;
use crate::backend::cpu::slices::Values;
use crate::backend::cpu::vectorised::vectorised;
use crate::tape::{Computed, Gradient};
use crate::{Result, Value};

pub(super) fn gated_residual(x: &Value, gate: &Value, y: &Value) -> Result<Computed<'static>> {
    let (gate, y) = (gate.fetch()?, y.fetch()?);
    Ok(Computed::new(forward(&x.fetch()?, &gate, &y)?, move |gradient, _| {
        let (dgate, dy) = backward(&gate, &y, &gradient.value.fetch()?)?;
        Ok(vec![Some(gradient), Some(Gradient::owned(dgate)), Some(Gradient::owned(dy))])
    }))
}

vectorised! {
    /// `out = x + gate · y` for rows that share one gate.
    fn forward_rows(out: &mut [f32], x: &[f32], y: &[f32], gate: &[f32]) {
        let d = gate.len();
        for ((out, x), y) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(y.chunks_exact(d)) {
            for i in 0..d {
                out[i] = x[i] + gate[i] * y[i];
            }
        }
    }
}

vectorised! {
    /// Writes the gradient of `y` to `dy` and adds to the gradient of the gate.
    fn backward_rows(dy: &mut [f32], y: &[f32], gradient: &[f32], gate: &[f32], dgate: &mut [f32]) {
        let d = gate.len();
        for ((dy, y), gradient) in dy.chunks_exact_mut(d).zip(y.chunks_exact(d)).zip(gradient.chunks_exact(d)) {
            for i in 0..d {
                dy[i] = gradient[i] * gate[i];
                dgate[i] += gradient[i] * y[i];
            }
        }
    }
}

fn forward(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (groups, d) = gate.dims2()?;
    let (x, gate, y) = (x.contiguous()?, gate.contiguous()?, y.contiguous()?);
    let (x_values, gate, y) = (Values::of(&x)?, Values::of(&gate)?, Values::of(&y)?);
    let (x_values, gate, y): (&[f32], &[f32], &[f32]) = (&x_values, &gate, &y);
    let mut out = Unwritten::new(x_values.len());
    // SAFETY: `forward_rows` only writes `out`.
    RowGroups::of(x_values.len(), groups, d).each_mut(unsafe { out.values_mut() }, |piece, out| {
        let rows = piece.first_row * d..piece.first_row * d + out.len();
        forward_rows(out, &x_values[rows.clone()], &y[rows], &gate[piece.group * d..][..d]);
    });
    // SAFETY: the pieces are all rows, and each was written.
    Ok(Tensor::from_vec(unsafe { out.written() }, x.dims(), x.device())?)
}

/// The gradients of `gate` and `y`; the gradient of `x` is `gradient` itself.
fn backward(gate: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let (groups, d) = gate.dims2()?;
    let (gate, y, gradient) = (gate.contiguous()?, y.contiguous()?, gradient.contiguous()?);
    let (gate_values, y_values, gradient) = (Values::of(&gate)?, Values::of(&y)?, Values::of(&gradient)?);
    let (gate_values, y_values, gradient): (&[f32], &[f32], &[f32]) = (&gate_values, &y_values, &gradient);
    let mut dy = Unwritten::new(y_values.len());
    let layout = RowGroups::of(y_values.len(), groups, d);
    // SAFETY: `backward_rows` only writes `dy`.
    let sums = layout.each_mut(unsafe { dy.values_mut() }, |piece, dy| {
        let mut dgate = vec![0.0; d];
        let rows = piece.first_row * d..piece.first_row * d + dy.len();
        backward_rows(dy, &y_values[rows.clone()], &gradient[rows], &gate_values[piece.group * d..][..d], &mut dgate);
        dgate
    });
    let dgate = layout.sums(sums.iter().map(Vec::as_slice));
    // SAFETY: the pieces are all rows, and each was written.
    let dy = unsafe { dy.written() };
    Ok((Tensor::from_vec(dgate, (groups, d), y.device())?, Tensor::from_vec(dy, y.dims(), y.device())?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Result;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::backend::reference::gated_residual as reference;
    use crate::finite_difference::{assert_close, pseudo_random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn kernels_agree_with_the_reference(
            (groups, rows, many, d) in (1usize..5, 1usize..60, 0usize..4, 1usize..140),
            transposed in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let rows = if many == 0 { rows + 300 } else { rows };
            let run = || -> Result<()> {
                // The same values with other strides.
                let random = |dims: &[usize], seed| {
                    let t = pseudo_random(dims, seed)?;
                    if transposed { Ok(t.transpose(0, 1)?.contiguous()?.transpose(0, 1)?) } else { Result::Ok(t) }
                };
                let (x, y) = (random(&[groups, rows, d], seed)?, random(&[groups, rows, d], seed ^ 1)?);
                let (gate, gradient) = (random(&[groups, d], seed ^ 2)?, random(&[groups, rows, d], seed ^ 3)?);
                assert_close(&super::forward(&x, &gate, &y)?, &reference::forward(&x, &gate, &y)?, 1e-6)?;
                let (ours, expected) = (super::backward(&gate, &y, &gradient)?, reference::backward(&gate, &y, &gradient)?);
                assert_close(&ours.0, &expected.0, 2e-5)?;
                assert_close(&ours.1, &expected.1, 1e-6)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }
}
