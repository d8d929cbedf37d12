//! Checks backward functions against finite differences, for the tests of this crate and of models that are built on it.

use candle_core::{Device, Tensor};
#[cfg(test)]
use candle_core::{Var as Leaf, backprop::GradStore};

#[cfg(test)]
use crate::Value;
use crate::{Error, Result, Tape, Var};

/// Values in [-1, 1) that depend only on `shape` and `seed`, for tests.
///
/// # Errors
///
/// If the device has no memory left.
pub fn pseudo_random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            // xorshift64*: the quality of the generator does not matter here.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
            bits as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Compares two tensors.
///
/// # Errors
///
/// If the shapes differ, or a difference exceeds `tolerance` × the largest absolute value of `expected`.
pub fn assert_close(ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    let largest = expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
    assert_close_at(ours, expected, tolerance, f64::from(largest))
}

/// [`assert_close`] for the gradient of `leaf`, with the tensor library's gradient as the reference.
///
/// # Errors
///
/// If one of the gradients is missing, or as [`assert_close`].
#[cfg(test)]
pub(crate) fn assert_gradient(ours: Option<&Value>, expected: &GradStore, leaf: &Leaf, tolerance: f64) -> Result<()> {
    let missing = || Error::MissingParameter("gradient".into());
    assert_close(&ours.ok_or_else(missing)?.to_host()?, expected.get(leaf).ok_or_else(missing)?, tolerance)
}

/// [`assert_close`] for sums in which terms of about `scale` cancel: the rounding error scales with the terms, not with the sum.
///
/// # Errors
///
/// If the shapes differ, or a difference exceeds `tolerance` × `scale`.
pub fn assert_close_at(ours: &Tensor, expected: &Tensor, tolerance: f64, scale: f64) -> Result<()> {
    if ours.dims() != expected.dims() {
        return Err(Error::shape("assert_close", format!("{:?}", expected.dims()), ours.dims()));
    }
    let (a, b) = (ours.flatten_all()?.to_vec1::<f32>()?, expected.flatten_all()?.to_vec1::<f32>()?);
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        let error = f64::from((a - b).abs()) / scale.max(f64::MIN_POSITIVE);
        if error.is_nan() || error > tolerance {
            let got = format!("{a} at element {i}, off by {error:e}");
            return Err(Error::Shape { op: "assert_close", expected: format!("{b} within {tolerance:e}"), got });
        }
    }
    Ok(())
}

/// Compares, for every element of every input, the gradient of a weighted sum of `f`'s output with a central difference.
///
/// # Errors
///
/// If `f` fails, or a gradient is off by more than 1 % of the largest gradient of its input (finite differences in f32 are no more
/// exact).
pub fn check(inputs: &[Tensor], f: impl for<'a> Fn(&Tape<'a>, &[Var]) -> Result<Var>) -> Result<()> {
    let tape = Tape::recording();
    let vars: Vec<Var> = inputs.iter().map(|t| tape.input(t.clone())).collect();
    let output = f(&tape, &vars)?;
    // A weighted sum, because mistakes can cancel in an unweighted one.
    let weights = pseudo_random(output.dims(), 99)?;
    let gradients = tape.backward(&output, &weights)?;
    for (which, input) in inputs.iter().enumerate() {
        let ours = match gradients.input(&vars[which]) {
            Some(gradient) => gradient.to_host()?.flatten_all()?.to_vec1::<f32>()?,
            None => vec![0.0; input.elem_count()],
        };
        if ours.len() != input.elem_count() {
            return Err(Error::shape("finite_difference", format!("a gradient of {:?}", input.dims()), ours.len()));
        }
        let numeric = differences(inputs, which, &weights, &f)?;
        compare(which, &ours, &numeric)?;
    }
    Ok(())
}

fn differences(
    inputs: &[Tensor],
    which: usize,
    weights: &Tensor,
    f: &impl for<'a> Fn(&Tape<'a>, &[Var]) -> Result<Var>,
) -> Result<Vec<f64>> {
    const STEP: f32 = 1.0 / 256.0;
    let values = inputs[which].flatten_all()?.to_vec1::<f32>()?;
    let loss = |values: &[f32]| -> Result<f64> {
        let tape = Tape::inference();
        let vars = inputs.iter().enumerate().map(|(i, t)| {
            let tensor = if i == which { Tensor::from_slice(values, t.dims(), &Device::Cpu)? } else { t.clone() };
            Ok(tape.constant(tensor))
        });
        let output = f(&tape, &vars.collect::<Result<Vec<_>>>()?)?;
        let (output, weights) = (output.to_host()?.flatten_all()?.to_vec1::<f32>()?, weights.flatten_all()?.to_vec1::<f32>()?);
        Ok(output.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
    };
    (0..values.len())
        .map(|i| {
            let mut moved = values.clone();
            moved[i] = values[i] + STEP;
            let above = loss(&moved)?;
            moved[i] = values[i] - STEP;
            Ok((above - loss(&moved)?) / f64::from(2.0 * STEP))
        })
        .collect()
}

fn compare(which: usize, ours: &[f32], numeric: &[f64]) -> Result<()> {
    let scale = numeric.iter().fold(1e-3_f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(numeric).enumerate() {
        let difference = (f64::from(*a) - b).abs();
        if difference.is_nan() || difference > 0.01 * scale {
            let got = format!("{a} at element {i} of input {which}");
            return Err(Error::Shape { op: "finite_difference", expected: format!("a gradient near {b:.5}"), got });
        }
    }
    Ok(())
}
