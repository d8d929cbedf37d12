//! Group norms against the reference, against values computed by hand, and against finite differences.

use candle_core::{DType, Device, Tensor, Var as Leaf};
use proptest::prelude::*;

use super::*;
use crate::backend::cpu::instruction_set::tests::with_each;
use crate::backend::reference::group_norm as reference;
use crate::finite_difference::{assert_close, assert_gradient, check, pseudo_random};

/// A constant without a tape.
fn var(x: &Tensor) -> Var {
    Tape::inference().constant(x)
}

fn norm(weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<GroupNorm> {
    GroupNorm::new(&var(weight), &var(bias), groups, eps)
}

/// The normalised image; no convolution applies the normalisation here.
fn apply(n: &Normalisation, x: &Tensor) -> Result<Tensor> {
    let c = n.channels();
    let places = x.elem_count() / n.images() / c;
    let mut values = x.flatten_all()?.to_vec1::<f32>()?;
    for (i, v) in values.iter_mut().enumerate() {
        let at = i / c / places * c + i % c;
        *v = (*v - n.mean[at]) * n.scale[at] + n.bias[i % c];
        if n.silu {
            *v /= 1.0 + (-*v).exp();
        }
    }
    Ok(Tensor::from_vec(values, x.dims(), x.device())?)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_halves_agree_with_the_reference(
        (images, h, w) in (1usize..3, 1usize..60, 1usize..40), (groups, size) in (1usize..5, 1usize..9),
        silu in any::<bool>(), offset in -30f64..30., seed in any::<u64>(),
    ) {
        let run = || -> Result<()> {
            let c = groups * size;
            let x = (pseudo_random(&[images, h, w, c], seed)? + offset)?;
            let (weight, bias) = (pseudo_random(&[c], seed ^ 1)?, pseudo_random(&[c], seed ^ 2)?);
            // With a tiny variance the result has only the digits that f32 keeps of the difference from a large mean.
            let norm = norm(&weight, &bias, groups, 1e-2)?;
            let expected = reference::forward(&x, &weight, &bias, groups, 1e-2, silu)?;
            assert_close(&apply(&norm.of(&var(&x), silu)?, &x)?, &expected, 1e-4)?;
            // The joint statistics of all images equal those of one image.
            let parts = (0..images).map(|i| norm.sums(&var(&x.narrow(0, i, 1)?))).collect::<Result<Vec<_>>>()?;
            let together = norm.normalisation(&GroupSums::merge(&parts)?, silu)?;
            let one = x.reshape((1, images * h, w, c))?;
            let expected = reference::forward(&one, &weight, &bias, groups, 1e-2, silu)?;
            assert_close(&apply(&together, &one)?, &expected, 1e-4)
        };
        for (set, result) in with_each(|set| (set, run())) {
            prop_assert!(result.is_ok(), "{set}: {result:?}");
        }
    }
}

#[test]
fn a_large_mean_costs_no_digits_of_the_variance() -> Result<()> {
    // 1000 ± 1: sums of squares in f32 would lose the variance of 1.
    let values: Vec<f32> = (0..20_000).map(|i| if i % 2 == 0 { 999.0 } else { 1001.0 }).collect();
    let x = Tensor::from_vec(values, (1, 100, 200, 1), &Device::Cpu)?;
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    for n in with_each(|_| norm(&one, &one, 1, 0.0)?.of(&var(&x), false)) {
        let n = n?;
        assert!((n.mean[0] - 1000.0).abs() < 1e-3 && (n.scale[0] - 1.0).abs() < 1e-6, "{n:?}");
    }
    Ok(())
}

#[test]
fn halves_that_do_not_fit_are_refused() -> Result<()> {
    let six = pseudo_random(&[6], 1)?;
    assert!(norm(&six, &six, 4, 1e-6).is_err() && norm(&six, &six, 0, 1e-6).is_err());
    assert!(norm(&six, &pseudo_random(&[5], 1)?, 1, 1e-6).is_err());
    let six_norm = norm(&six, &six, 3, 1e-6)?;
    assert!(six_norm.of(&var(&pseudo_random(&[1, 2, 2, 5], 1)?), true).is_err());
    let three = norm(&pseudo_random(&[3], 1)?, &pseudo_random(&[3], 1)?, 3, 1e-6)?;
    let sums = three.sums(&var(&pseudo_random(&[1, 2, 2, 3], 1)?))?;
    assert!(six_norm.normalisation(&sums, true).is_err());
    assert!(GroupSums::merge(&[]).is_err());
    assert!(GroupSums::merge(&[sums, six_norm.sums(&var(&pseudo_random(&[1, 2, 2, 6], 1)?))?]).is_err());
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let inputs = [pseudo_random(&[2, 3, 2, 6], 1)?, pseudo_random(&[6], 2)?, pseudo_random(&[6], 3)?];
    for silu in [false, true] {
        check(&inputs, |tape, v| group_norm(tape, &v[0], &GroupNorm::new(&v[1], &v[2], 3, 1e-2)?, silu))?;
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
            // A tiny variance would amplify the rounding of the difference from the mean.
            let reference = reference::forward(&x, &weight, &bias, groups, 1e-2, silu)?;
            let gradient = pseudo_random(reference.dims(), seed ^ 3)?;
            let expected = (&reference * &gradient)?.sum_all()?.backward()?;
            let tape = Tape::recording();
            let (x_var, weight_var, bias_var) =
                (tape.input(x.as_tensor()), tape.parameter("w", weight.as_tensor()), tape.parameter("b", bias.as_tensor()));
            let y = group_norm(&tape, &x_var, &GroupNorm::new(&weight_var, &bias_var, groups, 1e-2)?, silu)?;
            assert_close(&y.to_host()?, &reference, 1e-5)?;
            let found = tape.backward(&y, gradient)?;
            let near = |ours: Option<&Value>, leaf: &Leaf| assert_gradient(ours, &expected, leaf, 1e-4);
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
    let run = |weight, bias, groups| -> Result<Var> {
        group_norm(&tape, &x, &GroupNorm::new(&vector(weight)?, &vector(bias)?, groups, 1e-6)?, true)
    };
    let refused = |weight, bias, groups| run(weight, bias, groups).is_err();
    assert!(!refused(6, 6, 3));
    assert!(refused(6, 6, 4));
    assert!(refused(5, 5, 1));
    assert!(refused(6, 5, 3));
    Ok(())
}
