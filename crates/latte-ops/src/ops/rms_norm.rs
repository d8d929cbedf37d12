//! RMS norm: divides by the root of the mean square.

use crate::{Error, Result, Tape, Var, backend};

/// `x / √(mean x² + eps) · weight` over the last axis.
///
/// # Shapes
///
/// `x` `[…, d]`, `weight` `[d]`; gives the shape of `x`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn rms_norm(tape: &Tape<'_>, x: &Var, weight: &Var, eps: f64) -> Result<Var> {
    if x.dims().is_empty() || weight.dims() != &x.dims()[x.dims().len() - 1..] {
        return Err(Error::shape("rms_norm", "x […, d], weight [d]", (x.dims(), weight.dims())));
    }
    let values = [x, weight].map(Var::value);
    tape.record("rms_norm", &[x, weight], backend::of(values).rms_norm(values[0], values[1], eps)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[5], 2)?];
        check(&inputs, |tape, v| rms_norm(tape, &v[0], &v[1], 1e-6))
    }

    #[test]
    fn rows_have_a_mean_square_of_one_and_misfits_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant((pseudo_random(&[4, 64], 1)? + 3.0)?);
        let weight = |d: usize| Ok::<_, Error>(tape.constant(pseudo_random(&[d], 2)?.ones_like()?));
        for row in rms_norm(&tape, &x, &weight(64)?, 0.0)?.to_host()?.to_vec2::<f32>()? {
            assert!((row.iter().map(|v| v * v).sum::<f32>() / 64.0 - 1.0).abs() < 1e-5);
        }
        assert!(rms_norm(&tape, &x, &weight(63)?, 0.0).is_err());
        Ok(())
    }
}
