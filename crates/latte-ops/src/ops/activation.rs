//! Functions of single values beside SiLU, for encoders of text and images.

use crate::{Result, Tape, Var, backend};

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// What is below 0 becomes 0.
    Relu,
    /// `x / (1 + e⁻ˣ)`, as encoders of text compute it; [`silu`](crate::silu) may differ in the last bits.
    Silu,
    /// `x · sigmoid(1.702 x)`, CLIP's GELU.
    QuickGelu,
}

/// `kind` of each value.
///
/// # Errors
///
/// If the device fails.
pub fn activation(tape: &Tape<'_>, x: &Var, kind: Activation) -> Result<Var> {
    tape.record("activation", &[x], backend::of([x.value()]).activation(x.value(), kind)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        // No value so near to 0 that the difference would go over the corner.
        let x = pseudo_random(&[3, 7], 1)?;
        let x = (x.sign()? * 0.1)?.add(&x)?;
        for kind in [Activation::Relu, Activation::Silu, Activation::QuickGelu] {
            check(std::slice::from_ref(&x), |tape, v| activation(tape, &v[0], kind))?;
        }
        Ok(())
    }

    #[test]
    fn values_are_the_formulas() -> Result<()> {
        let x = candle_core::Tensor::new(&[-1.5f32, 0.0, 2.0], &candle_core::Device::Cpu)?;
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        for (kind, expected) in [
            (Activation::Relu, [0.0, 0.0, 2.0]),
            (Activation::Silu, [-1.5 * sigmoid(-1.5), 0.0, 2.0 * sigmoid(2.0)]),
            (Activation::QuickGelu, [-1.5 * sigmoid(1.702 * -1.5), 0.0, 2.0 * sigmoid(1.702 * 2.0)]),
        ] {
            let tape = Tape::inference();
            let found = activation(&tape, &tape.constant(&x), kind)?.to_host()?.to_vec1::<f32>()?;
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{kind:?}: {found:?}");
        }
        Ok(())
    }
}
