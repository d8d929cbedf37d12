//! A group norm on a tape, for training.

use candle_core::{DType, Tensor};

use super::{GroupNorm, Normalisation};
use crate::backend::cpu::group_norm::gradients::{Norm, backward, forward};
use crate::backend::cpu::slices::Values;
use crate::{Error, Result, Tape, Var};

/// A group norm, with SiLU behind it or without, with gradients: for training small networks on the CPU. What it is, see
/// [`GroupNorm`].
///
/// # Shapes
///
/// `x` `[n, …, c]`, an image each; `weight` and `bias` `[c]`; gives the shape of `x`.
///
/// # Errors
///
/// If the shapes do not fit, `groups` does not divide `c`, or a tensor is not f32 on the CPU.
pub fn recorded_group_norm(
    tape: &Tape<'_>,
    x: &Var,
    weight: &Var,
    bias: &Var,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Var> {
    // Only to check; weight and bias are applied with their gradients in mind.
    GroupNorm::new(weight.tensor(), bias.tensor(), groups, eps)?;
    let ones = Tensor::ones(weight.dims(), DType::F32, x.tensor().device())?;
    let x_value = x.tensor().contiguous()?;
    let statistics = GroupNorm::new(&ones, &ones.zeros_like()?, groups, eps)?.of(&x_value, false)?;
    let layer = Layer { statistics, weight: weight.tensor().to_vec1()?, bias: bias.tensor().to_vec1()?, groups, silu };
    let y = Tensor::from_vec(forward(&Values::of(&x_value)?, layer.norm()), x.dims(), x_value.device())?;
    let (x, weight, bias) = (x.target(), weight.target(), bias.target());
    Ok(tape.record(y, &[x.clone(), weight.clone(), bias.clone()], move |gradient, gradients| {
        let gradient = gradient.contiguous()?;
        if gradient.dims() != x_value.dims() {
            return Err(Error::shape("recorded_group_norm", format!("a gradient {:?}", x_value.dims()), gradient.dims()));
        }
        let [dx, dweight, dbias] = backward(&Values::of(&x_value)?, &Values::of(&gradient)?, layer.norm());
        let (c, device) = (dweight.len(), x_value.device());
        gradients.give(&x, Tensor::from_vec(dx, x_value.dims(), device)?)?;
        gradients.give(&weight, Tensor::from_vec(dweight, c, device)?)?;
        gradients.give(&bias, Tensor::from_vec(dbias, c, device)?)
    }))
}

/// What the backward pass needs beside `x`.
struct Layer {
    statistics: Normalisation,
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    silu: bool,
}

impl Layer {
    fn norm(&self) -> Norm<'_> {
        let Self { statistics, weight, bias, groups, silu } = self;
        Norm { statistics, weight, bias, groups: *groups, silu: *silu }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var as Leaf;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::backend::reference::group_norm as reference;
    use crate::finite_difference::{assert_close, assert_gradient, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 2, 6], 1)?, pseudo_random(&[6], 2)?, pseudo_random(&[6], 3)?];
        for silu in [false, true] {
            check(&inputs, |tape, v| recorded_group_norm(tape, &v[0], &v[1], &v[2], 3, 1e-2, silu))?;
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn agrees_with_the_reference(
            (images, h, w) in (1usize..4, 1usize..50, 1usize..50), (groups, size) in (1usize..5, 1usize..9),
            (silu, offset) in (any::<bool>(), -3f64..3.), seed in any::<u64>(),
        ) {
            let run = || -> Result<()> {
                let c = groups * size;
                let x = Leaf::from_tensor(&(pseudo_random(&[images, h, w, c], seed)? + offset)?)?;
                let (weight, bias) = (Leaf::from_tensor(&pseudo_random(&[c], seed ^ 1)?)?, Leaf::from_tensor(&pseudo_random(&[c], seed ^ 2)?)?);
                // A tiny variance would take digits of the difference from the mean.
                let plain = reference::forward(&x, &weight, &bias, groups, 1e-2, silu)?;
                let gradient = pseudo_random(plain.dims(), seed ^ 3)?;
                let expected = (&plain * &gradient)?.sum_all()?.backward()?;
                let tape = Tape::recording();
                let (x_var, weight_var, bias_var) =
                    (tape.input(x.as_tensor().clone()), tape.parameter("w", &weight), tape.parameter("b", &bias));
                let y = recorded_group_norm(&tape, &x_var, &weight_var, &bias_var, groups, 1e-2, silu)?;
                assert_close(y.tensor(), &plain, 1e-5)?;
                let found = tape.backward(&y, gradient)?;
                let near = |ours: Option<&Tensor>, leaf: &Leaf| assert_gradient(ours, &expected, leaf, 1e-4);
                near(found.input(&x_var), &x)?;
                near(found.parameter("w"), &weight)?;
                near(found.parameter("b"), &bias)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let tape = Tape::recording();
        let x = tape.input(pseudo_random(&[1, 2, 2, 6], 1)?);
        let vector = |c| -> Result<Var> { Ok(tape.constant(pseudo_random(&[c], 2)?)) };
        assert!(recorded_group_norm(&tape, &x, &vector(6)?, &vector(6)?, 4, 1e-6, true).is_err());
        assert!(recorded_group_norm(&tape, &x, &vector(5)?, &vector(5)?, 1, 1e-6, true).is_err());
        assert!(recorded_group_norm(&tape, &x, &vector(6)?, &vector(5)?, 3, 1e-6, true).is_err());
        Ok(())
    }
}
