//! Convolution of channels-last images as a product of matrices without a copy of all patches. [`convolution`] and
//! [`convolution_over_frames`] are for inference, on any device; [`recorded_convolution`] has gradients, for f32 on the CPU.
//!
//! In a channels-last image the pixels under one row of a kernel are `width · c` values side by side, and those of the next
//! pixel begin `c` (or `stride · c`) values later. So a 3 × 3 convolution is three products, added up, whose left operand is
//! the image itself read with overlapping rows. A task copies the part of the image that it needs into memory of its own,
//! with zeros around the border, and normalises, activates, doubles and rounds it on the way: the tensors between a group
//! norm, SiLU, an upsampling and a convolution never exist.

mod recorded;

use std::ops::Range;

use candle_core::Tensor;

pub use crate::backend::cpu::convolution::weights::ConvolutionWeights;
pub use recorded::recorded_convolution;

use crate::backend::cpu::convolution as cpu;
use crate::backend::cpu::convolution::weights::Form;
use crate::backend::reference::convolution as reference;
use crate::{Error, Normalisation, Result};

/// What a convolution does besides its products.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// Pixels from one place of the kernel to the next, in height and width.
    pub stride: usize,
    /// Zeros above and below, and left and right, of the (activated, doubled) image.
    pub padding: [[usize; 2]; 2],
    /// Whether the image is first doubled in height and width, each pixel becoming four.
    pub upsample: bool,
    /// What each pixel goes through first: a group norm, and SiLU if it says so.
    pub input: Option<&'a Normalisation>,
    /// What is added to the result, of its shape.
    pub residual: Option<&'a Tensor>,
}

impl Convolution<'_> {
    /// Stride 1, no padding, nothing before or behind.
    pub const PLAIN: Self = Self { stride: 1, padding: [[0; 2]; 2], upsample: false, input: None, residual: None };
    /// The size of the image stays what it is with a kernel of 3 × 3.
    pub const SAME: Self = Self { padding: [[1; 2]; 2], ..Self::PLAIN };
}

/// The convolution of images with the same weights.
///
/// # Shapes
///
/// `x` `[n, h, w, in]`; gives `[n, h', w', out]`, where `h' = (h·u + top + bottom − height)/stride + 1`, rounded down, with
/// `u` = 2 where the image is doubled, and `w'` likewise.
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or weights and values are on several devices.
pub fn convolution(x: &Tensor, weights: &ConvolutionWeights, options: &Convolution<'_>) -> Result<Tensor> {
    let &[n, h, w, c] = x.dims() else { return Err(Error::shape("convolution", "x [n, h, w, in]", x.dims())) };
    let out = sizes([h, w], weights, options)
        .filter(|_| n > 0 && c == weights.input)
        .ok_or_else(|| misfit(x.dims(), weights, options))?;
    let shape = [n, out[0], out[1], weights.output];
    check_input(n, weights, options.input)?;
    if let Some(residual) = options.residual
        && residual.dims() != shape
    {
        return Err(Error::shape("convolution", format!("a residual {shape:?}"), residual.dims()));
    }
    match &weights.form {
        Form::Packed(form) => cpu::images(&x.contiguous()?, weights, form, options, shape),
        Form::Plain { weight, bias, precision } => Ok(reference::images(*precision, x, weight, bias, options)?),
    }
}

/// The convolution of a clip over its frames only, with a kernel `[frames, 1]` of an odd length and as many zero frames around
/// the clip that it stays as long as it is. Frames are tensors of their own, and only the frames `wanted` of the result are
/// made, so that a clip can be worked on some frames at a time.
///
/// # Shapes
///
/// `frames`: all of the clip, each `[1, h, w, in]`; `input`, if any, holds for all frames; `residual`, if any: one for each frame
/// that is wanted, each `[1, h, w, out]`; gives as many, each `[1, h, w, out]`.
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or weights and values are on several devices.
pub fn convolution_over_frames(
    frames: &[Tensor],
    wanted: Range<usize>,
    weights: &ConvolutionWeights,
    input: Option<&Normalisation>,
    residual: Option<&[Tensor]>,
) -> Result<Vec<Tensor>> {
    const OP: &str = "convolution_over_frames";
    let first = match frames.first().map(Tensor::dims) {
        Some(&[1, h, w, c]) if c == weights.input && h * w > 0 => [1, h, w, weights.output],
        other => return Err(Error::shape(OP, format!("frames [1, h, w, {}]", weights.input), other)),
    };
    if weights.size[1] != 1 || weights.size[0].is_multiple_of(2) {
        return Err(Error::shape(OP, "a kernel [odd, 1]", weights.size));
    }
    if let Some(other) = frames.iter().find(|frame| frame.dims() != frames[0].dims()) {
        return Err(Error::shape(OP, format!("frames of one shape, {:?}", frames[0].dims()), other.dims()));
    }
    if wanted.start >= wanted.end || wanted.end > frames.len() {
        return Err(Error::shape(OP, format!("frames among {}", frames.len()), wanted));
    }
    check_input(1, weights, input)?;
    if let Some(residual) = residual
        && (residual.len() != wanted.len() || residual.iter().any(|r| r.dims() != first))
    {
        let got = (residual.len(), residual.first().map(Tensor::dims));
        return Err(Error::shape(OP, format!("{} residuals {first:?}", wanted.len()), got));
    }
    match &weights.form {
        Form::Packed(form) => {
            let frames = frames.iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
            cpu::frames(&frames, wanted, (weights, form), input, residual, first)
        }
        Form::Plain { weight, bias, precision } => {
            Ok(reference::frames(*precision, frames, wanted, [weight, bias], input, residual)?)
        }
    }
}

/// Height and width of the result; `None` if the kernel does not fit into the image.
fn sizes(image: [usize; 2], weights: &ConvolutionWeights, options: &Convolution<'_>) -> Option<[usize; 2]> {
    let mut out = [0; 2];
    for (axis, out) in out.iter_mut().enumerate() {
        let doubled = image[axis].checked_mul(if options.upsample { 2 } else { 1 })?;
        let padded = doubled.checked_add(options.padding[axis][0])?.checked_add(options.padding[axis][1])?;
        *out = padded.checked_sub(weights.size[axis])?.checked_div(options.stride)? + 1;
    }
    (image[0] * image[1] > 0).then_some(out)
}

fn misfit(x: &[usize], weights: &ConvolutionWeights, options: &Convolution<'_>) -> Error {
    let (c, size, padding) = (weights.input, weights.size, options.padding);
    let expected = format!("x [n, h, w, {c}] that a kernel of {size:?} with padding {padding:?} fits");
    Error::shape("convolution", expected, x)
}

fn check_input(images: usize, weights: &ConvolutionWeights, input: Option<&Normalisation>) -> Result<()> {
    match input {
        Some(input) if input.channels() != weights.input || input.images() != images => {
            let expected = format!("a normalisation of {images} images of {} channels", weights.input);
            Err(Error::shape("convolution", expected, [input.images(), input.channels()]))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
