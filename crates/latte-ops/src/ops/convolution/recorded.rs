//! A convolution on a tape, for training.

use candle_core::Tensor;

use super::{Convolution, ConvolutionWeights, convolution};
use crate::backend::cpu::convolution::backward::{Sizes, backward};
use crate::backend::cpu::slices::Values;
use crate::tape::Target;
use crate::{Error, Result, Tape, Var};

/// [`convolution`] with gradients, for training small networks on the CPU. Images are spread over the threads.
///
/// # Shapes
///
/// `x` `[n, h, w, in]`, `weight` `[out, in, height, width]`, `bias` `[out]`; gives what [`convolution`] does. `residual`, of the
/// shape of the result, is added to it.
///
/// # Errors
///
/// As [`convolution`], or if `options` has a normalisation (that is an operation of its own here,
/// [`crate::recorded_group_norm`]) or another residual.
pub fn recorded_convolution(
    tape: &Tape<'_>,
    x: &Var,
    weight: &Var,
    bias: &Var,
    residual: Option<&Var>,
    options: &Convolution<'_>,
) -> Result<Var> {
    const OP: &str = "recorded_convolution";
    if options.input.is_some() || options.residual.is_some() {
        return Err(Error::shape(OP, "nothing before or behind the convolution", "a normalisation or a residual"));
    }
    let weights = ConvolutionWeights::new(weight.tensor(), bias.tensor(), tape.precision())?;
    let y = convolution(x.tensor(), &weights, &Convolution { residual: residual.map(Var::tensor), ..*options })?;
    let (&[_, h, w, input], &[_, out_h, out_w, output]) = (x.dims(), y.dims()) else {
        return Err(Error::shape(OP, "x [n, h, w, in]", x.dims()));
    };
    let sizes = Sizes::new([h, w, input], [out_h, out_w, output], weights.size, options);
    let precision = tape.precision();
    let (x_value, weight_value) = (x.tensor().contiguous()?, weight.tensor().contiguous()?);
    let residual = residual.map_or(Target::Nowhere, Var::target);
    let (x, weight, bias) = (x.target(), weight.target(), bias.target());
    Ok(tape.record(y, &[x.clone(), weight.clone(), bias.clone(), residual.clone()], move |gradient, gradients| {
        let gradient = gradient.contiguous()?;
        let found = {
            let (x_values, weight_values) = (Values::of(&x_value)?, Values::of(&weight_value)?);
            backward(precision, &sizes, &x_values, &weight_values, &Values::of(&gradient)?, x.is_wanted())
        };
        let device = x_value.device();
        if x.is_wanted() {
            gradients.give(&x, Tensor::from_vec(found.x, x_value.dims(), device)?)?;
        }
        gradients.give(&weight, Tensor::from_vec(found.weight, weight_value.dims(), device)?)?;
        gradients.give(&bias, Tensor::from_vec(found.bias, output, device)?)?;
        gradients.give(&residual, gradient)
    }))
}

#[cfg(test)]
mod tests {
    use candle_core::Var as Leaf;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::{undisturbed, with_each};
    use crate::backend::reference::convolution as reference;
    use crate::finite_difference::{assert_close, assert_gradient, check, pseudo_random};
    use crate::{GroupNorm, Precision};

    const DOWN: Convolution<'_> = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
    const UP: Convolution<'_> = Convolution { upsample: true, ..Convolution::SAME };

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 4, 6, 3], 1)?, pseudo_random(&[5, 3, 3, 3], 2)?, pseudo_random(&[5], 3)?];
        for options in [Convolution::SAME, DOWN, UP] {
            check(&inputs, |tape, v| recorded_convolution(tape, &v[0], &v[1], &v[2], None, &options))?;
        }
        let residual = [&inputs[..], &[pseudo_random(&[2, 4, 6, 5], 4)?]].concat();
        check(&residual, |tape, v| recorded_convolution(tape, &v[0], &v[1], &v[2], Some(&v[3]), &Convolution::SAME))?;
        // One value both ways: its gradient is the sum.
        let around = [inputs[0].clone(), pseudo_random(&[3, 3, 3, 3], 5)?, pseudo_random(&[3], 6)?];
        check(&around, |tape, v| recorded_convolution(tape, &v[0], &v[1], &v[2], Some(&v[0]), &Convolution::SAME))?;
        let pointwise = [inputs[0].clone(), pseudo_random(&[5, 3, 1, 1], 2)?, inputs[2].clone()];
        check(&pointwise, |tape, v| recorded_convolution(tape, &v[0], &v[1], &v[2], None, &Convolution::PLAIN))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn gradients_agree_with_those_of_the_tensor_library(
            (n, h, w) in (1usize..4, 1usize..12, 1usize..20), (input, output) in (1usize..20, 1usize..40),
            (kernel, stride) in ([1usize..4, 1usize..4], 1usize..3), padding in [[0usize..2, 0usize..2], [0usize..2, 0usize..2]],
            (upsample, large, wants_x) in (any::<bool>(), prop::bool::weighted(0.1), any::<bool>()), seed in any::<u64>(),
        ) {
            // Now and then an image that a task works on in several parts.
            let (h, w) = if large { (h + 30, w + 60) } else { (h, w) };
            let factor = if upsample { 2 } else { 1 };
            prop_assume!(h * factor + padding[0][0] + padding[0][1] >= kernel[0]);
            prop_assume!(w * factor + padding[1][0] + padding[1][1] >= kernel[1]);
            // The tensor library's own gradients take no stride that leaves pixels over.
            prop_assume!(stride == 1 || (h * factor + padding[0][0] + padding[0][1] - kernel[0]) % stride == 0);
            prop_assume!(stride == 1 || (w * factor + padding[1][0] + padding[1][1] - kernel[1]) % stride == 0);
            let run = || -> Result<()> {
                let options = Convolution { stride, padding, upsample, ..Convolution::PLAIN };
                let x = Leaf::from_tensor(&pseudo_random(&[n, h, w, input], seed)?)?;
                let weight = Leaf::from_tensor(&pseudo_random(&[output, input, kernel[0], kernel[1]], seed ^ 1)?)?;
                let bias = Leaf::from_tensor(&pseudo_random(&[output], seed ^ 2)?)?;
                let plain = reference::forward(Precision::F32, &x, &weight, &bias, stride, padding, upsample)?;
                let gradient = pseudo_random(plain.dims(), seed ^ 3)?;
                let expected = (&plain * &gradient)?.sum_all()?.backward()?;

                let tape = Tape::recording();
                let x_var = if wants_x { tape.input(x.as_tensor().clone()) } else { tape.constant(x.as_tensor().clone()) };
                let (weight_var, bias_var) = (tape.parameter("w", &weight), tape.parameter("b", &bias));
                let y = recorded_convolution(&tape, &x_var, &weight_var, &bias_var, None, &options)?;
                assert_close(y.tensor(), &plain, 1e-5)?;
                let found = tape.backward(&y, gradient)?;
                let near = |ours: Option<&Tensor>, leaf: &Leaf| assert_gradient(ours, &expected, leaf, 1e-5);
                if wants_x {
                    near(found.input(&x_var), &x)?;
                }
                near(found.parameter("w"), &weight)?;
                near(found.parameter("b"), &bias)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn gradients_do_not_depend_on_the_number_of_threads() -> Result<()> {
        undisturbed(|| {
            let run = || -> Result<Vec<f32>> {
                let tape = Tape::recording();
                let x = tape.input(pseudo_random(&[7, 9, 9, 4], 1)?);
                let (weight, bias) = (pseudo_random(&[6, 4, 3, 3], 2)?, pseudo_random(&[6], 3)?);
                let (weight, bias) = (tape.parameter("w", &weight), tape.parameter("b", &bias));
                let y = recorded_convolution(&tape, &x, &weight, &bias, None, &Convolution::SAME)?;
                let found = tape.backward(&y, pseudo_random(y.dims(), 4)?)?;
                Ok(found.parameter("w").ok_or(Error::MissingParameter("w".into()))?.flatten_all()?.to_vec1()?)
            };
            let in_pool = |threads| -> Result<Vec<f32>> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.map_err(|e| Error::shape("threads", "a pool", e))?.install(run)
            };
            assert_eq!(in_pool(1)?, in_pool(3)?);
            Ok(())
        })
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let tape = Tape::recording();
        let x = tape.input(pseudo_random(&[1, 4, 4, 3], 1)?);
        let weight = |input| -> Result<Var> { Ok(tape.parameter("w", &pseudo_random(&[5, input, 3, 3], 2)?)) };
        let bias = tape.parameter("b", &pseudo_random(&[5], 3)?);
        assert!(recorded_convolution(&tape, &x, &weight(4)?, &bias, None, &Convolution::SAME).is_err());
        let one = pseudo_random(&[3], 4)?;
        let norm = GroupNorm::new(&one, &one, 1, 1e-6)?.of(x.tensor(), true)?;
        let options = Convolution { input: Some(&norm), ..Convolution::SAME };
        assert!(recorded_convolution(&tape, &x, &weight(3)?, &bias, None, &options).is_err());
        Ok(())
    }
}
