//! The reference formulations.

use candle_core::Tensor;

use crate::tape::{Computed, Gradient};
use crate::{Result, Value};

pub(crate) fn add(x: &Value, y: &Value) -> Result<Computed<'static>> {
    let value = x.like(x.fetch()?.broadcast_add(&y.fetch()?)?)?;
    let (like, y_dims) = (y.clone(), y.dims().to_vec());
    Ok(Computed::new(value, move |gradient, wanted| {
        // Both inputs share one gradient tensor if nothing was broadcast.
        let dy = if wanted[1] { Some(Gradient::shared(like.like(sum_to(&gradient.value.fetch()?, &y_dims)?)?)) } else { None };
        let dx = if dy.is_some() { Gradient::shared(gradient.value) } else { gradient };
        Ok(vec![Some(dx), dy])
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

pub(crate) fn mul(x: &Value, y: &Value) -> Result<Computed<'static>> {
    let (like, x, y) = (x.clone(), x.fetch()?, y.fetch()?);
    let value = like.like((&x * &y)?)?;
    Ok(Computed::new(value, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let owned = |tensor: Tensor| Ok::<_, crate::Error>(Some(Gradient::owned(like.like(tensor)?)));
        Ok(vec![owned((&gradient * &y)?)?, owned((gradient * &x)?)?])
    }))
}

/// The values of `x` moved to `value`; `backward` moves their gradient back.
fn moved(x: &Value, value: Tensor, backward: impl FnOnce(&Tensor) -> Result<Tensor> + 'static) -> Result<Computed<'static>> {
    let like = x.clone();
    Ok(Computed::new(x.like(value)?, move |gradient, _| {
        let tensor = gradient.value.fetch()?;
        let back = backward(&tensor)?;
        let same = shares_memory(&tensor, &back);
        let back = like.like(back)?;
        Ok(vec![Some(if same { gradient.become_of(back) } else { Gradient::owned(back) })])
    }))
}

fn shares_memory(a: &Tensor, b: &Tensor) -> bool {
    let ((a, _), (b, _)) = (a.storage_and_layout(), b.storage_and_layout());
    std::ptr::eq(&raw const *a, &raw const *b)
}

pub(crate) fn reshape(x: &Value, dims: &[usize]) -> Result<Computed<'static>> {
    let old = x.dims().to_vec();
    moved(x, x.fetch()?.reshape(dims)?, move |gradient| Ok(gradient.reshape(old)?))
}

pub(crate) fn permute(x: &Value, axes: &[usize], inverse: Vec<usize>) -> Result<Computed<'static>> {
    moved(x, x.fetch()?.permute(axes)?.contiguous()?, move |gradient| Ok(gradient.permute(inverse)?.contiguous()?))
}

pub(crate) fn narrow(x: &Value, axis: usize, start: usize, len: usize) -> Result<Computed<'static>> {
    let after = x.dims()[axis] - start - len;
    let value = x.fetch()?.narrow(axis, start, len)?.contiguous()?;
    moved(x, value, move |gradient| Ok(gradient.pad_with_zeros(axis, start, after)?))
}

pub(crate) fn pad(x: &Value, axis: usize, [before, after]: [usize; 2]) -> Result<Computed<'static>> {
    let len = x.dims()[axis];
    let value = x.fetch()?.pad_with_zeros(axis, before, after)?.contiguous()?;
    moved(x, value, move |gradient| Ok(gradient.narrow(axis, before, len)?))
}

pub(crate) fn concat(parts: &[&Value], axis: usize) -> Result<Computed<'static>> {
    let tensors = parts.iter().map(|part| part.fetch()).collect::<Result<Vec<_>>>()?;
    let joined = Tensor::cat(&tensors, axis)?.contiguous()?;
    let lengths: Vec<usize> = parts.iter().map(|part| part.dims()[axis]).collect();
    let Some(like) = parts.first().map(|&first| first.clone()) else { return Ok(Computed::without_gradient(joined)) };
    Ok(Computed::new(like.like(joined)?, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let mut start = 0;
        let part = |len: usize| {
            start += len;
            Ok(Some(Gradient::shared(like.like(gradient.narrow(axis, start - len, len)?)?)))
        };
        lengths.into_iter().map(part).collect()
    }))
}

pub(crate) fn zeros(like: &Value, dims: &[usize]) -> Result<Value> {
    let tensor = like.fetch()?;
    like.like(Tensor::zeros(dims, tensor.dtype(), tensor.device())?)
}

pub(crate) fn put_slice(target: &Value, part: &Value, axis: usize, start: usize) -> Result<()> {
    target.change(|tensor| Ok(tensor.slice_set(&part.fetch()?.contiguous()?, axis, start)?))
}

pub(crate) fn mean_axis(x: &Value, axis: usize) -> Result<Computed<'static>> {
    let dims = x.dims().to_vec();
    moved(x, x.fetch()?.mean(axis)?, move |gradient| {
        let share = (gradient / dims[axis] as f64)?.unsqueeze(axis)?.broadcast_as(dims)?;
        Ok(share.contiguous()?)
    })
}

pub(crate) fn repeat_rows(x: &Value, times: usize) -> Result<Computed<'static>> {
    let tensor = x.fetch()?;
    let (rows, d) = tensor.dims2()?;
    let value = tensor.unsqueeze(1)?.broadcast_as((rows, times, d))?.reshape((rows * times, d))?;
    moved(x, value, move |gradient| Ok(gradient.reshape((rows, times, d))?.sum(1)?))
}
