//! The SiLU activation.

use crate::backend::reference::silu as reference;
use crate::{Result, Tape, Var};

/// `x · sigmoid(x)`, element by element.
///
/// # Errors
///
/// If the device fails.
pub fn silu(tape: &Tape<'_>, x: &Var) -> Result<Var> {
    let (value, target) = (x.tensor().clone(), x.target());
    Ok(tape.record(reference::forward(&value)?, &[x.target()], move |gradient, gradients| {
        gradients.give(&target, reference::backward(&value, &gradient)?)
    }))
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
