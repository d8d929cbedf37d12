//! Layer norm modulated by a condition (adaLN).

use crate::{Error, Result, Tape, Var, backend};

/// `norm(x) · (1 + scale) + shift` over the last axis, where `norm` has no parameters of its own (adaLN, §3.3 of DiT). Only matmuls
/// may read the result (see [`crate::linear_low_precision`]).
///
/// # Shapes
///
/// `x` `[…, d]`; `shift` and `scale` `[g, d]`. The rows of `x`, in order, form `g` equal groups that share one vector. Gives the
/// shape of `x`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn modulated_layer_norm(tape: &Tape<'_>, x: &Var, shift: &Var, scale: &Var, eps: f64) -> Result<Var> {
    check_groups("modulated_layer_norm", x, shift)?;
    check_groups("modulated_layer_norm", x, scale)?;
    let values = [x, shift, scale].map(Var::value);
    let computed = backend::of(values).modulated_layer_norm(tape.context(), values[0], values[1], values[2], eps)?;
    tape.record("modulated_layer_norm", &[x, shift, scale], computed)
}

/// Checks that the rows of `x` `[…, d]` can share `vectors` `[g, d]`.
pub(crate) fn check_groups(op: &'static str, x: &Var, vectors: &Var) -> Result<()> {
    let fits = match (x.dims(), vectors.dims()) {
        ([rows @ .., d], [groups, width]) => d == width && *groups > 0 && rows.iter().product::<usize>().is_multiple_of(*groups),
        _ => false,
    };
    if fits { Ok(()) } else { Err(Error::shape(op, "x […, d] and vectors [g, d]", (x.dims(), vectors.dims()))) }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[2, 5], 2)?, pseudo_random(&[2, 5], 3)?];
        check(&inputs, |tape, v| modulated_layer_norm(tape, &v[0], &v[1], &v[2], 1e-6))
    }

    #[test]
    fn groups_get_their_own_vectors_and_rows_are_normal() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(pseudo_random(&[2, 4, 64], 1)?);
        let shift = tape.constant(Tensor::new(&[[0f32; 64], [5.; 64]], &Device::Cpu)?);
        let scale = tape.constant(Tensor::new(&[[0f32; 64], [1.; 64]], &Device::Cpu)?);
        let y = modulated_layer_norm(&tape, &x, &shift, &scale, 1e-6)?.to_host()?.to_vec3::<f32>()?;
        for (group, (mean, variance)) in [(0.0, 1.0), (5.0, 4.0)].into_iter().enumerate() {
            for row in &y[group] {
                let m = row.iter().sum::<f32>() / 64.0;
                let v = row.iter().map(|v| (v - m).powi(2)).sum::<f32>() / 64.0;
                assert!((m - mean).abs() < 1e-4 && (v - variance).abs() < 1e-3, "mean {m}, variance {v}");
            }
        }
        Ok(())
    }
}
