//! Operations that move values without mixing them, and sums.

use candle_core::Tensor;

use crate::{Error, Result, Tape, Var};

/// `x + y`, where `y` may be broadcast to the shape of `x`.
///
/// # Errors
///
/// If `y` cannot be broadcast to the shape of `x`.
pub fn add(tape: &Tape<'_>, x: &Var, y: &Var) -> Result<Var> {
    let value = x.tensor().broadcast_add(y.tensor())?;
    if value.dims() != x.dims() {
        return Err(Error::shape("add", format!("a shape that broadcasts to {:?}", x.dims()), y.dims()));
    }
    let y_dims = y.dims().to_vec();
    let (x, y) = (x.target(), y.target());
    Ok(tape.record(value, &[x.clone(), y.clone()], move |gradient, gradients| {
        if y.is_wanted() {
            gradients.share(&y, sum_to(&gradient, &y_dims)?)?;
        }
        gradients.share(&x, gradient)
    }))
}

/// Sums a gradient over the axes along which a value of shape `dims` was broadcast.
fn sum_to(gradient: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut gradient = gradient.clone();
    while gradient.rank() > dims.len() {
        gradient = gradient.sum(0)?;
    }
    for (axis, &len) in dims.iter().enumerate() {
        if len == 1 && gradient.dim(axis)? != 1 {
            gradient = gradient.sum_keepdim(axis)?;
        }
    }
    Ok(gradient)
}

/// The same values in another shape.
///
/// # Errors
///
/// If the shapes hold different numbers of values.
pub fn reshape(tape: &Tape<'_>, x: &Var, dims: &[usize]) -> Result<Var> {
    let old = x.dims().to_vec();
    let target = x.target();
    Ok(tape.record(x.tensor().reshape(dims)?, &[x.target()], move |gradient, gradients| {
        gradients.give(&target, gradient.reshape(old)?)
    }))
}

/// The axes in another order, as a contiguous tensor.
///
/// # Errors
///
/// If `axes` is no permutation of the axes of `x`.
pub fn permute(tape: &Tape<'_>, x: &Var, axes: &[usize]) -> Result<Var> {
    let mut inverse = vec![0; axes.len()];
    for (to, &from) in axes.iter().enumerate() {
        *inverse.get_mut(from).ok_or_else(|| Error::shape("permute", "axes of x", axes))? = to;
    }
    let target = x.target();
    Ok(tape.record(x.tensor().permute(axes)?.contiguous()?, &[x.target()], move |gradient, gradients| {
        gradients.give(&target, gradient.permute(inverse)?.contiguous()?)
    }))
}

/// `len` entries of one axis from `start` on.
///
/// # Errors
///
/// If the axis is shorter than that.
pub fn narrow(tape: &Tape<'_>, x: &Var, axis: usize, start: usize, len: usize) -> Result<Var> {
    let value = x.tensor().narrow(axis, start, len)?.contiguous()?;
    let after = x.dims()[axis] - start - len;
    let target = x.target();
    Ok(tape.record(value, &[x.target()], move |gradient, gradients| {
        gradients.give(&target, gradient.pad_with_zeros(axis, start, after)?)
    }))
}

/// Values one behind the other along `axis`.
///
/// # Errors
///
/// If the other axes differ.
pub fn concat(tape: &Tape<'_>, parts: &[&Var], axis: usize) -> Result<Var> {
    let tensors: Vec<&Tensor> = parts.iter().map(|p| p.tensor()).collect();
    let value = Tensor::cat(&tensors, axis)?.contiguous()?;
    let parts: Vec<_> = parts.iter().map(|p| (p.target(), p.dims()[axis])).collect();
    let targets: Vec<_> = parts.iter().map(|(target, _)| target.clone()).collect();
    Ok(tape.record(value, &targets, move |gradient, gradients| {
        let mut start = 0;
        for (target, len) in parts {
            gradients.share(&target, gradient.narrow(axis, start, len)?)?;
            start += len;
        }
        Ok(())
    }))
}

/// The mean over one axis, which goes away.
///
/// # Errors
///
/// If there is no such axis.
pub fn mean_axis(tape: &Tape<'_>, x: &Var, axis: usize) -> Result<Var> {
    let value = x.tensor().mean(axis)?;
    let dims = x.dims().to_vec();
    let target = x.target();
    Ok(tape.record(value, &[x.target()], move |gradient, gradients| {
        let share = (gradient / dims[axis] as f64)?.unsqueeze(axis)?.broadcast_as(dims)?;
        gradients.give(&target, share.contiguous()?)
    }))
}

/// Each row `times` times, one behind the other: `[rows, d]` to `[rows · times, d]`.
///
/// # Errors
///
/// If `x` does not have two axes.
pub fn repeat_rows(tape: &Tape<'_>, x: &Var, times: usize) -> Result<Var> {
    let [rows, d] = *x.dims() else { return Err(Error::shape("repeat_rows", "[rows, d]", x.dims())) };
    let value = x.tensor().unsqueeze(1)?.broadcast_as((rows, times, d))?.reshape((rows * times, d))?;
    let target = x.target();
    Ok(tape.record(value, &[x.target()], move |gradient, gradients| {
        gradients.give(&target, gradient.reshape((rows, times, d))?.sum(1)?)
    }))
}

#[cfg(test)]
mod tests {
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
        check(&[x.clone(), pseudo_random(&[2, 2, 4], 3)?], |tape, v| concat(tape, &[&v[0], &v[1], &v[0]], 1))?;
        check(std::slice::from_ref(&x), |tape, v| mean_axis(tape, &v[0], 1))?;
        check(&[pseudo_random(&[2, 3], 4)?], |tape, v| repeat_rows(tape, &v[0], 3))
    }

    #[test]
    fn repeated_rows_stay_together() -> Result<()> {
        let tape = Tape::inference();
        let x = tape.constant(Tensor::new(&[[1f32], [2.]], &candle_core::Device::Cpu)?);
        assert_eq!(repeat_rows(&tape, &x, 2)?.tensor().to_vec2::<f32>()?, [[1.], [1.], [2.], [2.]]);
        Ok(())
    }
}
