//! The reference formulation.

use std::ops::Range;

use candle_core::{Result, Tensor};

use crate::Convolution;
use crate::{Normalisation, Precision};

/// `x` `[n, h, w, in]` with the pixels of each image doubled.
fn doubled(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h, 1, w, 1, c))?.broadcast_as((n, h, 2, w, 2, c))?.reshape((n, 2 * h, 2 * w, c))
}

/// As [`crate::convolution`], of what is normalised already, by the tensor library.
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

/// [`crate::convolution`] of what was checked.
pub(crate) fn images(
    precision: Precision,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    options: &Convolution<'_>,
) -> Result<Tensor> {
    let x = match options.input {
        Some(input) => input.apply(x)?,
        None => x.clone(),
    };
    let y = forward(precision, &x, weight, bias, options.stride, options.padding, options.upsample)?;
    match options.residual {
        Some(residual) => y + residual,
        None => Ok(y),
    }
}

/// [`crate::convolution_over_frames`] of what was checked: one image whose rows are frames, as the kernels have it.
pub(crate) fn frames(
    precision: Precision,
    frames: &[Tensor],
    wanted: Range<usize>,
    [weight, bias]: [&Tensor; 2],
    input: Option<&Normalisation>,
    residual: Option<&[Tensor]>,
) -> Result<Vec<Tensor>> {
    let (_, h, w, c) = frames[0].dims4()?;
    let half = weight.dim(2)? / 2;
    // Only frames that a wanted one sees.
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
