//! Layer norm with learnt scale and shift.

use crate::backend::reference::layer_norm as reference;
use crate::{Error, Result, Tape, Var};

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
    let (normal, inverse_std) = reference::normalise(x.tensor(), eps)?;
    let y = normal.broadcast_mul(weight.tensor())?.broadcast_add(bias.tensor())?;
    let weight_value = weight.tensor().clone();
    let (x, weight, bias) = (x.target(), weight.target(), bias.target());
    Ok(tape.record(y, &[x.clone(), weight.clone(), bias.clone()], move |gradient, gradients| {
        gradients.give(&weight, reference::sum_rows(&(&gradient * &normal)?)?)?;
        gradients.give(&bias, reference::sum_rows(&gradient)?)?;
        let scaled = gradient.broadcast_mul(&weight_value)?;
        gradients.give(&x, reference::backward_normalise(&normal, &inverse_std, &scaled)?)
    }))
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
