//! The SiLU activation.

use crate::{Result, Tape, Var, backend};

/// `x · sigmoid(x)`, elementwise. Gives the shape of `x`.
///
/// # Errors
///
/// If the device fails.
pub fn silu(tape: &Tape<'_>, x: &Var) -> Result<Var> {
    tape.record("silu", &[x], backend::of([x.value()]).silu(x.value())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        check(&[pseudo_random(&[3, 7], 1)?], |tape, v| silu(tape, &v[0]))
    }
}
