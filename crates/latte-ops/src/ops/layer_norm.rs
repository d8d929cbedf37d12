//! Layer norm with learnt weight and bias.

use crate::{Error, Result, Tape, Var, backend};

/// `(x − mean) / √(variance + eps) · weight + bias` over the last axis.
///
/// # Shapes
///
/// `x` `[…, d]`, `weight` and `bias` `[d]`; gives the shape of `x`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn layer_norm(tape: &Tape<'_>, x: &Var, weight: &Var, bias: &Var, eps: f64) -> Result<Var> {
    let d = x.dims().last().copied().unwrap_or(0);
    if weight.dims() != [d] || bias.dims() != [d] {
        return Err(Error::shape("layer_norm", "x […, d], weight [d], bias [d]", (x.dims(), weight.dims(), bias.dims())));
    }
    let values = [x, weight, bias].map(Var::value);
    let computed = backend::of(values).layer_norm(values[0], values[1], values[2], eps)?;
    tape.record("layer_norm", &[x, weight, bias], computed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[5], 2)?, pseudo_random(&[5], 3)?];
        check(&inputs, |tape, v| layer_norm(tape, &v[0], &v[1], &v[2], 1e-6))
    }
}
