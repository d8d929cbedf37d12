//! Elementwise activations other than SiLU, for text and image encoders.

use crate::{Result, Tape, Var, backend};

/// An elementwise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + e⁻ˣ)` in the form of text encoders; [`silu`](crate::silu) may differ in the last bits.
    Silu,
    /// `x · sigmoid(1.702 x)`, CLIP's GELU.
    QuickGelu,
    /// GELU with the tanh approximation, with the same values as [`linear_gelu`](crate::linear_gelu).
    Gelu,
}

/// Applies `kind` to each value. Gives the shape of `x`.
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
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{check, pseudo_random};
    use crate::{linear, linear_gelu};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        // No value is so near to 0 that the finite difference would cross ReLU's corner.
        let x = pseudo_random(&[3, 7], 1)?;
        let x = (x.sign()? * 0.1)?.add(&x)?;
        for kind in [Activation::Relu, Activation::Silu, Activation::QuickGelu, Activation::Gelu] {
            check(std::slice::from_ref(&x), |tape, v| activation(tape, &v[0], kind))?;
        }
        Ok(())
    }

    #[test]
    fn gelu_has_the_bits_of_the_layer_with_gelu() -> Result<()> {
        let [x, weight, bias] = [&[9, 20][..], &[30, 20], &[30]].map(|shape| pseudo_random(shape, 3));
        let (x, weight, bias) = (x?, weight?, bias?);
        let compared = with_each(|set| {
            for tape in [Tape::inference(), Tape::recording()] {
                let [x, weight, bias] = [&x, &weight, &bias].map(|t| tape.input(t));
                let fused = linear_gelu(&tape, &x, &weight, Some(&bias))?.to_host()?;
                let apart = activation(&tape, &linear(&tape, &x, &weight, Some(&bias))?, Activation::Gelu)?.to_host()?;
                assert_eq!(fused.to_vec2::<f32>()?, apart.to_vec2::<f32>()?, "{set}");
            }
            Ok(())
        });
        compared.into_iter().collect()
    }

    #[test]
    fn values_are_the_formulas() -> Result<()> {
        let x = candle_core::Tensor::new(&[-1.5f32, 0.0, 2.0], &candle_core::Device::Cpu)?;
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        for (kind, expected) in [
            (Activation::Relu, [0.0, 0.0, 2.0]),
            (Activation::Silu, [-1.5 * sigmoid(-1.5), 0.0, 2.0 * sigmoid(2.0)]),
            (Activation::QuickGelu, [-1.5 * sigmoid(1.702 * -1.5), 0.0, 2.0 * sigmoid(1.702 * 2.0)]),
            // ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
            (Activation::Gelu, [-0.100_428_42, 0.0, 1.954_597_7]),
        ] {
            let tape = Tape::inference();
            let found = activation(&tape, &tape.constant(&x), kind)?.to_host()?.to_vec1::<f32>()?;
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{kind:?}: {found:?}");
        }
        Ok(())
    }
}
