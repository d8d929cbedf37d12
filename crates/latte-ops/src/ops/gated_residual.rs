//! The gated residual connection.

use super::modulated_layer_norm::check_groups;
use crate::{Error, Result, Tape, Var, backend};

/// `x + gate · y` (adaLN-Zero, §3.3 of DiT).
///
/// # Shapes
///
/// `x` and `y` `[…, d]`; `gate` `[g, d]`. The rows of `x`, in order, fall into `g` equal groups that share one gate.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn gated_residual(tape: &Tape<'_>, x: &Var, gate: &Var, y: &Var) -> Result<Var> {
    check_groups("gated_residual", x, gate)?;
    if x.dims() != y.dims() {
        return Err(Error::shape("gated_residual", format!("y of shape {:?}", x.dims()), y.dims()));
    }
    let values = [x, gate, y].map(Var::value);
    let computed = backend::of(values).gated_residual(values[0], values[1], values[2])?;
    tape.record("gated_residual", &[x, gate, y], computed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 5], 1)?, pseudo_random(&[2, 5], 2)?, pseudo_random(&[2, 3, 5], 3)?];
        check(&inputs, |tape, v| gated_residual(tape, &v[0], &v[1], &v[2]))
    }
}
