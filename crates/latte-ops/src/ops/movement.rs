//! Operations that move values, elementwise sums and products, and means.

use crate::{Error, Result, Tape, Value, Var, backend};

/// `x + y`, where `y` may be broadcast to the shape of `x`.
///
/// # Errors
///
/// If `y` cannot be broadcast to the shape of `x`.
pub fn add(tape: &Tape<'_>, x: &Var, y: &Var) -> Result<Var> {
    let fits =
        x.dims().len() >= y.dims().len() && x.dims().iter().rev().zip(y.dims().iter().rev()).all(|(x, y)| x == y || *y == 1);
    if !fits {
        return Err(Error::shape("add", format!("a shape that broadcasts to {:?}", x.dims()), y.dims()));
    }
    let values = [x, y].map(Var::value);
    tape.record("add", &[x, y], backend::of(values).add(values[0], values[1])?)
}

/// `x · y`, elementwise.
///
/// # Errors
///
/// If the shapes differ.
pub fn mul(tape: &Tape<'_>, x: &Var, y: &Var) -> Result<Var> {
    if x.dims() != y.dims() {
        return Err(Error::shape("mul", format!("{:?}", x.dims()), y.dims()));
    }
    let values = [x, y].map(Var::value);
    tape.record("mul", &[x, y], backend::of(values).mul(values[0], values[1])?)
}

/// The same values in another shape.
///
/// # Errors
///
/// If the shapes hold different numbers of values.
pub fn reshape(tape: &Tape<'_>, x: &Var, dims: &[usize]) -> Result<Var> {
    tape.record("reshape", &[x], backend::of([x.value()]).reshape(x.value(), dims)?)
}

/// Permutes the axes; the result is contiguous.
///
/// # Errors
///
/// If `axes` is no permutation of the axes of `x`.
pub fn permute(tape: &Tape<'_>, x: &Var, axes: &[usize]) -> Result<Var> {
    let mut inverse = vec![0; axes.len()];
    for (to, &from) in axes.iter().enumerate() {
        *inverse.get_mut(from).ok_or_else(|| Error::shape("permute", "axes of x", axes))? = to;
    }
    tape.record("permute", &[x], backend::of([x.value()]).permute(x.value(), axes, inverse)?)
}

/// `len` entries of one axis from `start` on.
///
/// # Errors
///
/// If the axis is shorter than `start + len`, or does not exist.
pub fn narrow(tape: &Tape<'_>, x: &Var, axis: usize, start: usize, len: usize) -> Result<Var> {
    if x.dims().get(axis).is_none_or(|&all| start.checked_add(len).is_none_or(|end| end > all)) {
        return Err(Error::shape("narrow", format!("an axis {axis} of at least {start} + {len}"), x.dims()));
    }
    tape.record("narrow", &[x], backend::of([x.value()]).narrow(x.value(), axis, start, len)?)
}

/// Pads one axis with `zeros[0]` zeros in front and `zeros[1]` behind.
///
/// # Errors
///
/// If the axis does not exist.
pub fn pad(tape: &Tape<'_>, x: &Var, axis: usize, zeros: [usize; 2]) -> Result<Var> {
    if axis >= x.dims().len() {
        return Err(Error::shape("pad", format!("an axis {axis}"), x.dims()));
    }
    tape.record("pad", &[x], backend::of([x.value()]).pad(x.value(), axis, zeros)?)
}

/// Concatenates `parts` along `axis`.
///
/// # Errors
///
/// If the other axes differ.
pub fn concat(tape: &Tape<'_>, parts: &[&Var], axis: usize) -> Result<Var> {
    let values: Vec<&Value> = parts.iter().map(|part| part.value()).collect();
    if values.iter().any(|value| value.dims().len() <= axis) {
        return Err(Error::shape(
            "concat",
            format!("parts with an axis {axis}"),
            values.iter().map(|v| v.dims()).collect::<Vec<_>>(),
        ));
    }
    tape.record("concat", parts, backend::of(values.iter().copied()).concat(&values, axis)?)
}

/// The mean over one axis, which is removed.
///
/// # Errors
///
/// If the axis does not exist.
pub fn mean_axis(tape: &Tape<'_>, x: &Var, axis: usize) -> Result<Var> {
    tape.record("mean_axis", &[x], backend::of([x.value()]).mean_axis(x.value(), axis)?)
}

/// Repeats each row `times` times: `[rows, d]` to `[rows · times, d]`, the copies of a row one after the other.
///
/// # Errors
///
/// If `x` does not have two axes.
pub fn repeat_rows(tape: &Tape<'_>, x: &Var, times: usize) -> Result<Var> {
    let [_, _] = *x.dims() else { return Err(Error::shape("repeat_rows", "[rows, d]", x.dims())) };
    tape.record("repeat_rows", &[x], backend::of([x.value()]).repeat_rows(x.value(), times)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let x = pseudo_random(&[2, 3, 4], 1)?;
        check(&[x.clone(), pseudo_random(&[3, 1], 2)?], |tape, v| add(tape, &v[0], &v[1]))?;
        check(&[x.clone(), x.clone()], |tape, v| add(tape, &v[0], &v[1]))?;
        check(std::slice::from_ref(&x), |tape, v| add(tape, &v[0], &v[0]))?;
        check(std::slice::from_ref(&x), |tape, v| reshape(tape, &v[0], &[4, 6]))?;
        check(std::slice::from_ref(&x), |tape, v| permute(tape, &v[0], &[2, 0, 1]))?;
        check(std::slice::from_ref(&x), |tape, v| narrow(tape, &v[0], 1, 1, 2))?;
        check(std::slice::from_ref(&x), |tape, v| pad(tape, &v[0], 1, [2, 1]))?;
        check(&[x.clone(), x.clone()], |tape, v| mul(tape, &v[0], &v[1]))?;
        check(&[x.clone(), pseudo_random(&[2, 2, 4], 3)?], |tape, v| concat(tape, &[&v[0], &v[1], &v[0]], 1))?;
        check(std::slice::from_ref(&x), |tape, v| mean_axis(tape, &v[0], 1))?;
        check(&[pseudo_random(&[2, 3], 4)?], |tape, v| repeat_rows(tape, &v[0], 3))
    }

    #[test]
    fn repeated_rows_stay_together() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(Tensor::new(&[[1f32], [2.]], &Device::Cpu)?);
        assert_eq!(repeat_rows(&tape, &x, 2)?.to_host()?.to_vec2::<f32>()?, [[1.], [1.], [2.], [2.]]);
        Ok(())
    }
}
