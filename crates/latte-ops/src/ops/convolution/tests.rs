//! Convolutions against the reference, against values computed by hand, and against finite differences.

use std::slice::from_ref;

use candle_core::{DType, Device, Tensor, Var as Leaf};
use proptest::prelude::*;

use super::*;
use crate::backend::cpu::instruction_set::tests::{undisturbed, with_each};
use crate::backend::reference::convolution as reference;
use crate::finite_difference::{assert_close, assert_gradient, check, pseudo_random};
use crate::{GroupNorm, Precision};

const DOWN: Convolution<'_> = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
const UP: Convolution<'_> = Convolution { upsample: true, ..Convolution::SAME };

/// A constant without a tape.
fn var(x: &Tensor) -> Var {
    Tape::inference().constant(x)
}

fn vars(x: &[Tensor]) -> Vec<Var> {
    x.iter().map(var).collect()
}

fn prepared(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<ConvolutionWeights> {
    ConvolutionWeights::new(&Tape::inference().with_precision(precision), &var(weight), &var(bias))
}

fn norm(weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<GroupNorm> {
    GroupNorm::new(&var(weight), &var(bias), groups, eps)
}

/// Without gradients.
fn run(x: &Tensor, weights: &ConvolutionWeights, options: &Convolution<'_>) -> Result<Tensor> {
    convolution(&Tape::inference(), &var(x), weights, options)?.to_host()
}

/// Without gradients.
fn run_over_frames(
    frames: &[Tensor],
    wanted: Range<usize>,
    weights: &ConvolutionWeights,
    input: Option<&Normalisation>,
    residual: Option<&[Tensor]>,
) -> Result<Vec<Tensor>> {
    let residual = residual.map(vars);
    let made = convolution_over_frames(&Tape::inference(), &vars(frames), wanted, weights, input, residual.as_deref())?;
    made.iter().map(Var::to_host).collect()
}

/// With weight and bias on the tape.
fn recorded(tape: &Tape<'_>, [x, weight, bias]: [&Var; 3], options: &Convolution<'_>) -> Result<Var> {
    convolution(tape, x, &ConvolutionWeights::new(tape, weight, bias)?, options)
}

/// `x` after the normalisation, value by value.
fn activated(x: &Tensor, n: &Normalisation) -> Result<Tensor> {
    let (_, h, w, c) = x.dims4()?;
    let values = x.flatten_all()?.to_vec1::<f32>()?.into_iter().enumerate().map(|(i, v)| {
        let at = i / (h * w * c) * c + i % c;
        let y = (v - n.mean[at]) * n.scale[at] + n.bias[i % c];
        if n.silu { y / (1.0 + (-y).exp()) } else { y }
    });
    Ok(Tensor::from_vec(values.collect::<Vec<_>>(), x.dims(), x.device())?)
}

#[derive(Debug, Clone)]
struct Case {
    n: usize,
    image: [usize; 2],
    channels: [usize; 2],
    size: [usize; 2],
    stride: usize,
    padding: [[usize; 2]; 2],
    upsample: bool,
    /// 0: none, 1: norm, 2: norm and SiLU.
    input: usize,
    residual: bool,
    bf16: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let pads = || [0usize..3, 0usize..3];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..3);
    // Sometimes rows longer than a task is wide; odd numbers of channels, which do not fill whole words; deep ones, in several
    // parts.
    let columns = prop_oneof![4 => 1usize..40, 1 => 120usize..150];
    let input = prop_oneof![4 => 1usize..20, 1 => 130usize..140];
    (
        (1usize..3, 1usize..20, columns),
        (input, 1usize..70),
        (1usize..4, 1usize..4, 1usize..3),
        [pads(), pads()],
        flags,
        any::<u64>(),
    )
        .prop_filter_map("a kernel that fits", |((n, h, w), (ci, co), (kh, kw, stride), padding, flags, seed)| {
            let (upsample, residual, bf16, input) = flags;
            let [[top, bottom], [left, right]] = padding;
            let factor = if upsample { 2 } else { 1 };
            (h * factor + top + bottom >= kh && w * factor + left + right >= kw).then_some(Case {
                n,
                image: [h, w],
                channels: [ci, co],
                size: [kh, kw],
                stride,
                padding,
                upsample,
                input,
                residual,
                bf16,
                seed,
            })
        })
}

fn agrees(case: &Case) -> Result<()> {
    let &Case { n, image: [h, w], channels: [input, output], size: [kh, kw], seed, .. } = case;
    let precision = if case.bf16 { Precision::Bf16 } else { Precision::F32 };
    let x = pseudo_random(&[n, h, w, input], seed)?;
    let (weight, bias) = (pseudo_random(&[output, input, kh, kw], seed ^ 1)?, pseudo_random(&[output], seed ^ 2)?);
    let norm = norm(&pseudo_random(&[input], seed ^ 3)?, &pseudo_random(&[input], seed ^ 4)?, 1, 1e-3)?;
    let normalisation = (case.input > 0).then(|| norm.of(&var(&x), case.input == 2)).transpose()?;
    let seen = normalisation.as_ref().map_or(Ok(x.clone()), |n| activated(&x, n))?;
    let reference = reference::forward(precision, &seen, &weight, &bias, case.stride, case.padding, case.upsample)?;
    let residual = pseudo_random(reference.dims(), seed ^ 5)?;
    let expected = if case.residual { (&reference + &residual)? } else { reference };
    let weights = prepared(&weight, &bias, precision)?;
    let residual_var = var(&residual);
    let options = Convolution {
        stride: case.stride,
        padding: case.padding,
        upsample: case.upsample,
        input: normalisation.as_ref(),
        residual: case.residual.then_some(&residual_var),
    };
    // The norm's results differ in their last bits, so a few operands round to other bfloat16 values.
    let tolerance = if case.bf16 && case.input > 0 { 1e-2 } else { 1e-5 };
    let y = run(&x, &weights, &options)?;
    assert_close_to_terms(&y, &expected, tolerance, &seen, &weight)
}

/// Sums cancel: errors are compared with the terms of a sum.
fn assert_close_to_terms(y: &Tensor, expected: &Tensor, tolerance: f64, x: &Tensor, weight: &Tensor) -> Result<()> {
    let largest = |t: &Tensor| -> Result<f64> { Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?)) };
    let terms = (weight.elem_count() / weight.dims()[0]) as f64;
    let scale = 1.0 + largest(x)? * largest(weight)? * terms.sqrt();
    crate::finite_difference::assert_close_at(y, expected, tolerance, scale)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn agrees_with_the_reference(case in cases()) {
        for (set, result) in with_each(|set| (set, agrees(&case))) {
            prop_assert!(result.is_ok(), "{set}: {result:?}");
        }
    }

    #[test]
    fn over_frames_is_a_convolution_of_an_image_whose_rows_are_frames(
        (f, h, w) in (1usize..7, 1usize..16, 1usize..16), (input, output) in (1usize..20, 1usize..40),
        (from, length, with_norm, with_residual, bf16) in (0usize..7, 0usize..3, any::<bool>(), any::<bool>(), any::<bool>()), seed in any::<u64>(),
    ) {
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let compare = || -> Result<()> {
            let length = 2 * length + 1;
            let x = pseudo_random(&[f, h, w, input], seed)?;
            let (weight, bias) = (pseudo_random(&[output, input, length, 1], seed ^ 1)?, pseudo_random(&[output], seed ^ 2)?);
            let weights = prepared(&weight, &bias, precision)?;
            let image = x.reshape((1, f, h * w, input))?;
            let norm = norm(&pseudo_random(&[input], seed ^ 3)?, &pseudo_random(&[input], seed ^ 4)?, 1, 1e-3)?;
            let normalisation = with_norm.then(|| norm.of(&var(&image), true)).transpose()?;
            let seen = normalisation.as_ref().map_or(Ok(image.clone()), |n| activated(&image, n))?;
            let padding = [[length / 2; 2], [0; 2]];
            let reference = reference::forward(precision, &seen, &weight, &bias, 1, padding, false)?.reshape((f, h, w, output))?;
            let residual = pseudo_random(&[f, h, w, output], seed ^ 5)?;
            let expected = if with_residual { (reference + &residual)? } else { reference };
            let split = |x: &Tensor| (0..f).map(|i| x.narrow(0, i, 1)).collect::<candle_core::Result<Vec<_>>>();
            let wanted = from.min(f - 1)..f - from / 3 * usize::from(from / 3 + from.min(f - 1) < f);
            let expected = expected.narrow(0, wanted.start, wanted.len())?;
            let residual = with_residual.then(|| split(&residual)).transpose()?;
            let residual = residual.as_ref().map(|residual| &residual[wanted.clone()]);
            let y = run_over_frames(&split(&x)?, wanted, &weights, normalisation.as_ref(), residual)?;
            let tolerance = if bf16 && with_norm { 1e-2 } else { 1e-5 };
            assert_close_to_terms(&Tensor::cat(&y, 0)?, &expected, tolerance, &seen, &weight)
        };
        for (set, result) in with_each(|set| (set, compare())) {
            prop_assert!(result.is_ok(), "{set}: {result:?}");
        }
    }
}

#[test]
fn values_are_the_products_and_sums_by_hand() -> Result<()> {
    // One channel: a 2 × 2 image, a kernel that reads the pixel itself (×1) and its right neighbour (×10).
    let x = Tensor::new(&[[[[1f32], [2.]], [[3.], [4.]]]], &Device::Cpu)?;
    let kernel = Tensor::new(&[[[[0f32, 0., 0.], [0., 1., 10.], [0., 0., 0.]]]], &Device::Cpu)?;
    let weights = prepared(&kernel, &Tensor::new(&[0.5f32], &Device::Cpu)?, Precision::F32)?;
    let values = |options: &Convolution<'_>| -> Result<Vec<f32>> { Ok(run(&x, &weights, options)?.flatten_all()?.to_vec1()?) };
    assert_eq!(values(&Convolution::SAME)?, [21.5, 2.5, 43.5, 4.5]);
    assert_eq!(values(&Convolution { residual: Some(&var(&x)), ..Convolution::SAME })?, [22.5, 4.5, 46.5, 8.5]);
    // With zeros at the right and below only, kernels of stride 2 begin at the first pixel.
    let down = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
    assert_eq!(values(&down)?, [4.5]);
    let doubled = values(&Convolution { upsample: true, ..Convolution::SAME })?;
    assert_eq!(doubled[..8], [11.5, 21.5, 22.5, 2.5, 11.5, 21.5, 22.5, 2.5]);
    assert_eq!(doubled.len(), 16);
    Ok(())
}

#[test]
fn bf16_products_are_those_of_rounded_operands() -> Result<()> {
    // 1 + 2^-9 rounds to 1 in bfloat16 (8 bits of precision).
    let x = Tensor::new(&[[[[1f32 + 1. / 512.]]]], &Device::Cpu)?;
    let (weight, bias) = (Tensor::new(&[[[[3f32]]]], &Device::Cpu)?, Tensor::new(&[0f32], &Device::Cpu)?);
    for y in with_each(|_| run(&x, &prepared(&weight, &bias, Precision::Bf16)?, &Convolution::PLAIN)) {
        assert_eq!(y?.flatten_all()?.to_vec1::<f32>()?, [3.0]);
    }
    Ok(())
}

#[test]
fn a_permuted_image_is_read_as_it_is_meant() -> Result<()> {
    let x = pseudo_random(&[2, 3, 5, 7], 1)?.permute((0, 2, 3, 1))?; // [2, 5, 7, 3]
    let weights = prepared(&pseudo_random(&[4, 3, 3, 3], 2)?, &pseudo_random(&[4], 3)?, Precision::F32)?;
    let y = run(&x, &weights, &Convolution::SAME)?;
    assert_close(&y, &run(&x.contiguous()?, &weights, &Convolution::SAME)?, 0.0)
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let (weight, bias) = (pseudo_random(&[4, 3, 3, 3], 1)?, pseudo_random(&[4], 2)?);
    assert!(prepared(&weight, &pseudo_random(&[3], 1)?, Precision::F32).is_err());
    assert!(prepared(&pseudo_random(&[4, 3, 3], 1)?, &bias, Precision::F32).is_err());
    assert!(prepared(&pseudo_random(&[4, 0, 3, 3], 1)?, &bias, Precision::F32).is_err());
    let weights = prepared(&weight, &bias, Precision::F32)?;
    assert_eq!([weights.input_channels(), weights.output_channels()], [3, 4]);
    let x = pseudo_random(&[1, 4, 4, 3], 3)?;
    let refused = |x: &Tensor, options: &Convolution<'_>| run(x, &weights, options).is_err();
    assert!(!refused(&x, &Convolution::SAME));
    assert!(refused(&x.narrow(3, 0, 2)?, &Convolution::SAME));
    assert!(refused(&x.narrow(1, 0, 2)?, &Convolution::PLAIN));
    assert!(refused(&x.narrow(0, 0, 0)?, &Convolution::SAME));
    assert!(refused(&x.narrow(1, 0, 0)?, &Convolution { padding: [[4; 2]; 2], ..Convolution::SAME }));
    assert!(refused(&x.squeeze(0)?, &Convolution::SAME));
    assert!(refused(&x, &Convolution { stride: 0, ..Convolution::SAME }));
    assert!(refused(&x, &Convolution { padding: [[usize::MAX, 1], [1, 1]], ..Convolution::SAME }));
    assert!(refused(&x, &Convolution { residual: Some(&var(&x)), ..Convolution::SAME }));
    let one = pseudo_random(&[3], 1)?;
    let norm = norm(&one, &one, 3, 1e-6)?.of(&var(&Tensor::cat(&[&x, &x], 0)?), true)?;
    assert!(refused(&x, &Convolution { input: Some(&norm), ..Convolution::SAME }));
    assert!(refused(&x.to_dtype(DType::F64)?, &Convolution::SAME));
    // Over frames.
    let frame = x.clone();
    assert!(run_over_frames(from_ref(&frame), 0..1, &weights, None, None).is_err(), "a kernel over places");
    let even = prepared(&pseudo_random(&[4, 3, 2, 1], 1)?, &bias, Precision::F32)?;
    assert!(run_over_frames(from_ref(&frame), 0..1, &even, None, None).is_err());
    let odd = prepared(&pseudo_random(&[4, 3, 3, 1], 1)?, &bias, Precision::F32)?;
    assert!(run_over_frames(&[], 0..1, &odd, None, None).is_err());
    assert!(run_over_frames(&[frame.clone(), frame.narrow(1, 0, 2)?], 0..2, &odd, None, None).is_err());
    assert!(run_over_frames(from_ref(&frame), 0..1, &odd, None, Some(from_ref(&frame))).is_err());
    assert!(run_over_frames(from_ref(&frame), 0..2, &odd, None, None).is_err());
    assert!(run_over_frames(from_ref(&frame), 1..1, &odd, None, None).is_err());
    assert_eq!(run_over_frames(&[frame], 0..1, &odd, None, None)?[0].dims(), [1, 4, 4, 4]);
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let inputs = [pseudo_random(&[2, 4, 6, 3], 1)?, pseudo_random(&[5, 3, 3, 3], 2)?, pseudo_random(&[5], 3)?];
    for options in [Convolution::SAME, DOWN, UP] {
        check(&inputs, |tape, v| recorded(tape, [&v[0], &v[1], &v[2]], &options))?;
    }
    let residual = [&inputs[..], &[pseudo_random(&[2, 4, 6, 5], 4)?]].concat();
    check(&residual, |tape, v| {
        recorded(tape, [&v[0], &v[1], &v[2]], &Convolution { residual: Some(&v[3]), ..Convolution::SAME })
    })?;
    // Image and residual are one value: its gradient is the sum.
    let around = [inputs[0].clone(), pseudo_random(&[3, 3, 3, 3], 5)?, pseudo_random(&[3], 6)?];
    check(&around, |tape, v| recorded(tape, [&v[0], &v[1], &v[2]], &Convolution { residual: Some(&v[0]), ..Convolution::SAME }))?;
    let pointwise = [inputs[0].clone(), pseudo_random(&[5, 3, 1, 1], 2)?, inputs[2].clone()];
    check(&pointwise, |tape, v| recorded(tape, [&v[0], &v[1], &v[2]], &Convolution::PLAIN))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn gradients_agree_with_those_of_the_tensor_library(
        (n, h, w) in (1usize..4, 1usize..12, 1usize..20), (input, output) in (1usize..20, 1usize..40),
        (kernel, stride) in ([1usize..4, 1usize..4], 1usize..3), padding in [[0usize..2, 0usize..2], [0usize..2, 0usize..2]],
        (upsample, large, wants_x) in (any::<bool>(), prop::bool::weighted(0.1), any::<bool>()), seed in any::<u64>(),
    ) {
        // Sometimes an image that a task computes in several parts.
        let (h, w) = if large { (h + 30, w + 60) } else { (h, w) };
        let factor = if upsample { 2 } else { 1 };
        prop_assume!(h * factor + padding[0][0] + padding[0][1] >= kernel[0]);
        prop_assume!(w * factor + padding[1][0] + padding[1][1] >= kernel[1]);
        // The tensor library's own gradients reject a stride that leaves pixels over.
        prop_assume!(stride == 1 || (h * factor + padding[0][0] + padding[0][1] - kernel[0]) % stride == 0);
        prop_assume!(stride == 1 || (w * factor + padding[1][0] + padding[1][1] - kernel[1]) % stride == 0);
        let compare = || -> Result<()> {
            let options = Convolution { stride, padding, upsample, ..Convolution::PLAIN };
            let x = Leaf::from_tensor(&pseudo_random(&[n, h, w, input], seed)?)?;
            let weight = Leaf::from_tensor(&pseudo_random(&[output, input, kernel[0], kernel[1]], seed ^ 1)?)?;
            let bias = Leaf::from_tensor(&pseudo_random(&[output], seed ^ 2)?)?;
            let reference = reference::forward(Precision::F32, &x, &weight, &bias, stride, padding, upsample)?;
            let gradient = pseudo_random(reference.dims(), seed ^ 3)?;
            let expected = (&reference * &gradient)?.sum_all()?.backward()?;

            let tape = Tape::recording();
            let x_var = if wants_x { tape.input(x.as_tensor()) } else { tape.constant(x.as_tensor()) };
            let (weight_var, bias_var) = (tape.parameter("w", weight.as_tensor()), tape.parameter("b", bias.as_tensor()));
            let y = recorded(&tape, [&x_var, &weight_var, &bias_var], &options)?;
            assert_close(&y.to_host()?, &reference, 1e-5)?;
            let found = tape.backward(&y, gradient)?;
            let near = |ours: Option<&Value>, leaf: &Leaf| assert_gradient(ours, &expected, leaf, 1e-5);
            if wants_x {
                near(found.input(&x_var), &x)?;
            }
            near(found.parameter("w"), &weight)?;
            near(found.parameter("b"), &bias)
        };
        for (set, result) in with_each(|set| (set, compare())) {
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
            let y = recorded(&tape, [&x, &weight, &bias], &Convolution::SAME)?;
            let found = tape.backward(&y, pseudo_random(y.dims(), 4)?)?;
            Ok(found.parameter("w").ok_or(Error::MissingParameter("w".into()))?.to_host()?.flatten_all()?.to_vec1()?)
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
fn what_has_no_gradient_is_refused() -> Result<()> {
    let tape = Tape::recording();
    let x = tape.input(pseudo_random(&[1, 4, 4, 3], 1)?);
    let weight = |input| -> Result<Var> { Ok(tape.parameter("w", &pseudo_random(&[5, input, 3, 3], 2)?)) };
    let bias = tape.parameter("b", &pseudo_random(&[5], 3)?);
    assert!(recorded(&tape, [&x, &weight(4)?, &bias], &Convolution::SAME).is_err());
    let one = pseudo_random(&[3], 4)?;
    let norm = norm(&one, &one, 1, 1e-6)?.of(&x, true)?;
    let options = Convolution { input: Some(&norm), ..Convolution::SAME };
    assert!(recorded(&tape, [&x, &weight(3)?, &bias], &options).is_err());
    // Weights of a tape that does not record have no gradient, and no gradient goes through them.
    let weights = prepared(&pseudo_random(&[5, 3, 3, 3], 2)?, &pseudo_random(&[5], 3)?, Precision::F32)?;
    assert!(convolution(&tape, &x, &weights, &Convolution::SAME).is_err());
    let constant = tape.constant(pseudo_random(&[1, 4, 4, 3], 1)?);
    assert!(convolution(&tape, &constant, &weights, &Convolution::SAME).is_ok());
    let frames = prepared(&pseudo_random(&[5, 3, 3, 1], 2)?, &pseudo_random(&[5], 3)?, Precision::F32)?;
    assert!(convolution_over_frames(&tape, from_ref(&x), 0..1, &frames, None, None).is_err());
    Ok(())
}
