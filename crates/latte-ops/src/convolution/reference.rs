//! The plain formulation.

use candle_core::{Result, Tensor};

use crate::Precision;

/// `x` `[n, h, w, in]` with the pixels of each image doubled.
fn doubled(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h, 1, w, 1, c))?.broadcast_as((n, h, 2, w, 2, c))?.reshape((n, 2 * h, 2 * w, c))
}

/// As [`super::convolution`], of what is normalised already, by the tensor library.
pub(super) fn forward(
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
