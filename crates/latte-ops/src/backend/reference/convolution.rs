//! The reference formulation.

use std::ops::Range;

use candle_core::{Result, Tensor, Var as Leaf};

use crate::backend::Prepared;
use crate::ops::convolution::{Frames, Images};
use crate::tape::{Computed, Gradient};
use crate::{Convolution, Error, Normalisation, Precision, Value};

pub(crate) fn prepare_convolution(weight: &Value, bias: &Value, precision: Precision) -> crate::Result<Prepared> {
    Ok(Prepared::Plain { weight: weight.fetch()?.contiguous()?, bias: bias.fetch()?.contiguous()?, precision })
}

pub(crate) fn convolution(call: &Images<'_>) -> crate::Result<Computed<'static>> {
    let Prepared::Plain { weight, bias, precision } = &call.weights.prepared else {
        return Err(elsewhere("convolution", call.x));
    };
    let (precision, weight, bias, x, like) = (*precision, weight.clone(), bias.clone(), call.x.fetch()?, call.x.clone());
    let Convolution { stride, padding, upsample, .. } = *call.options;
    let input = match call.options.input {
        Some(input) => input.apply(&x)?,
        None => x.clone(),
    };
    let mut y = forward(precision, &input, &weight, &bias, stride, padding, upsample)?;
    if let Some(residual) = call.residual {
        y = (y + residual.fetch()?)?;
    }
    let y = like.like(y)?;
    if call.recorded.is_none() {
        return Ok(Computed::without_gradient(y));
    }
    let has_residual = call.residual.is_some();
    Ok(Computed::new(y, move |gradient, _| {
        let sizes = (stride, padding, upsample);
        let found = backward(precision, &x, &weight, &bias, sizes, &gradient.value.fetch()?)?;
        let owned = |tensor| Ok(Some(Gradient::owned(like.like(tensor)?)));
        let mut gradients = found.into_iter().map(owned).collect::<crate::Result<Vec<_>>>()?;
        if has_residual {
            gradients.push(Some(gradient));
        }
        Ok(gradients)
    }))
}

pub(crate) fn convolution_over_frames(call: &Frames<'_>) -> crate::Result<Vec<Value>> {
    let Prepared::Plain { weight, bias, precision } = &call.weights.prepared else {
        return Err(elsewhere("convolution_over_frames", call.frames[0]));
    };
    let fetch = |values: &[&Value]| values.iter().map(|value| value.fetch()).collect::<crate::Result<Vec<_>>>();
    let residual = call.residual.map(fetch).transpose()?;
    let made = frames(*precision, &fetch(call.frames)?, call.wanted.clone(), [weight, bias], call.input, residual.as_deref())?;
    made.into_iter().map(|frame| call.frames[0].like(frame)).collect()
}

fn elsewhere(op: &'static str, x: &Value) -> Error {
    Error::shape(op, "values where the weights are", x.dims())
}

/// `x` `[n, h, w, in]` with each pixel doubled in height and width.
fn doubled(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h, 1, w, 1, c))?.broadcast_as((n, h, 2, w, 2, c))?.reshape((n, 2 * h, 2 * w, c))
}

/// The convolution of an input that is already normalised.
pub(crate) fn forward(
    precision: Precision,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: [[usize; 2]; 2],
    upsample: bool,
) -> Result<Tensor> {
    let x = if upsample { doubled(x)? } else { x.clone() };
    let x = precision.operand(&x)?.permute((0, 3, 1, 2))?; // [n, c, h, w]
    let [[top, bottom], [left, right]] = padding;
    let x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?.contiguous()?;
    let y = x.conv2d(&precision.operand(weight)?.contiguous()?, 0, stride, 1, 1)?;
    y.permute((0, 2, 3, 1))?.broadcast_add(bias)
}

/// The gradients of `x`, weight and bias, computed by the tensor library.
fn backward(
    precision: Precision,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    (stride, padding, upsample): (usize, [[usize; 2]; 2], bool),
    gradient: &Tensor,
) -> crate::Result<[Tensor; 3]> {
    // The library rejects a stride that leaves pixels over, so those are cut off by reducing the padding.
    let factor = if upsample { 2 } else { 1 };
    let (dims, kernel) = ([x.dim(1)? * factor, x.dim(2)? * factor], [weight.dim(2)?, weight.dim(3)?]);
    let leaves = [Leaf::from_tensor(x)?, Leaf::from_tensor(weight)?, Leaf::from_tensor(bias)?];
    let [x_leaf, weight_leaf, bias_leaf] = &leaves;
    let mut image = if upsample { doubled(x_leaf)? } else { x_leaf.as_tensor().clone() };
    let mut padding = padding;
    for axis in 0..2 {
        let over = (dims[axis] + padding[axis][0] + padding[axis][1] - kernel[axis]) % stride;
        let from_padding = over.min(padding[axis][1]);
        padding[axis][1] -= from_padding;
        image = image.narrow(axis + 1, 0, dims[axis] - (over - from_padding))?;
    }
    let y = forward(precision, &image, weight_leaf, bias_leaf, stride, padding, false)?;
    let mut found = (y * gradient)?.sum_all()?.backward()?;
    let mut take = |leaf: &Leaf| found.remove(leaf).ok_or(Error::NoGradient("convolution"));
    Ok([take(x_leaf)?, take(weight_leaf)?, take(bias_leaf)?])
}

/// A convolution over frames: one image whose rows are frames.
fn frames(
    precision: Precision,
    frames: &[Tensor],
    wanted: Range<usize>,
    [weight, bias]: [&Tensor; 2],
    input: Option<&Normalisation>,
    residual: Option<&[Tensor]>,
) -> Result<Vec<Tensor>> {
    let (_, h, w, c) = frames[0].dims4()?;
    let half = weight.dim(2)? / 2;
    // Only the frames under the kernel of a wanted frame.
    let seen = wanted.start.saturating_sub(half)..(wanted.end + half).min(frames.len());
    let x = Tensor::cat(&frames[seen.clone()], 0)?.reshape((1, seen.len(), h * w, c))?; // [1, frames, h·w, in]
    let x = match input {
        Some(input) => input.apply(&x)?,
        None => x,
    };
    let missing = [half - (wanted.start - seen.start), half - (seen.end - wanted.end)];
    let y = forward(precision, &x, weight, bias, 1, [missing, [0; 2]], false)?; // [1, wanted, h·w, out]
    let frame = |i: usize| {
        let y = y.narrow(1, i, 1)?.reshape((1, h, w, weight.dim(0)?))?;
        match residual {
            Some(residual) => y + &residual[i],
            None => Ok(y),
        }
    };
    (0..wanted.len()).map(frame).collect()
}
