//! Convolution of channels-last images, fused with a normalisation, SiLU, an upsampling and a residual.

mod weights;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use weights::ConvolutionWeights;

use crate::{Error, Normalisation, Result, Tape, Value, Var, backend};

/// The options of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// The step from one output pixel to the next, in height and width.
    pub stride: usize,
    /// Zeros above and below, and left and right, of the (activated, upsampled) image.
    pub padding: [[usize; 2]; 2],
    /// Whether the image is first upsampled by 2 in height and width: each pixel becomes four.
    pub upsample: bool,
    /// A group norm that is applied first, with SiLU if it says so. Its statistics have no gradient: for a gradient, call
    /// [`group_norm`](crate::group_norm) before the convolution instead.
    pub input: Option<&'a Normalisation>,
    /// A tensor of the result's shape that is added to it.
    pub residual: Option<&'a Var>,
}

impl Convolution<'_> {
    /// Stride 1, no padding, nothing fused.
    pub const PLAIN: Self = Self { stride: 1, padding: [[0; 2]; 2], upsample: false, input: None, residual: None };
    /// A padding of 1 keeps the size of the image with a kernel of 3 × 3.
    pub const SAME: Self = Self { padding: [[1; 2]; 2], ..Self::PLAIN };
}

/// The convolution of a batch of images.
///
/// # Shapes
///
/// `x` `[n, h, w, in]`; gives `[n, h', w', out]`, where `h' = (h·u + top + bottom − height)/stride + 1`, rounded down, with `u` = 2
/// if the image is upsampled, else 1, and `w'` likewise.
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, weights and values are on different devices, or a gradient is wanted that does
/// not exist: through a normalisation, or of weights that were made for inference.
pub fn convolution(tape: &Tape<'_>, x: &Var, weights: &ConvolutionWeights, options: &Convolution<'_>) -> Result<Var> {
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
    if options.input.is_some() && (x.is_wanted() || weights.is_wanted()) {
        return Err(Error::NoGradient("a normalisation before a convolution"));
    }
    // Weights that were made for inference have no gradient, and no gradient goes through them.
    let recorded = weights.recorded().filter(|_| tape.is_recording());
    let residual = options.residual.map(Var::value);
    let call = Images { x: x.value(), weights, recorded: recorded.map(|[weight, _]| weight.value()), options, residual, shape };
    let computed = backend::of([call.x].into_iter().chain(residual)).convolution(&call)?;
    let parents: Vec<&Var> = [x].into_iter().chain(recorded.into_iter().flatten()).chain(options.residual).collect();
    tape.record("convolution", &parents, computed)
}

/// The convolution of a clip over its frames only, with a kernel `[frames, 1]` of odd length and zero frames as padding, which
/// keeps the clip's length. Each frame is a value of its own, and only the frames `wanted` of the result are computed, so that a
/// clip can be processed some frames at a time. It has no gradient.
///
/// # Shapes
///
/// `frames`: all frames of the clip, each `[1, h, w, in]`; `input`, if any, applies to all frames; `residual`, if any, has one
/// tensor for each wanted frame, each `[1, h, w, out]`; gives one tensor for each wanted frame, each `[1, h, w, out]`.
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, weights and values are on different devices, or a gradient is wanted.
pub fn convolution_over_frames(
    tape: &Tape<'_>,
    frames: &[Var],
    wanted: Range<usize>,
    weights: &ConvolutionWeights,
    input: Option<&Normalisation>,
    residual: Option<&[Var]>,
) -> Result<Vec<Var>> {
    const OP: &str = "convolution_over_frames";
    let first = match frames.first().map(Var::dims) {
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
        let got = (residual.len(), residual.first().map(Var::dims));
        return Err(Error::shape(OP, format!("{} residuals {first:?}", wanted.len()), got));
    }
    if frames.iter().chain(residual.unwrap_or_default()).any(Var::is_wanted) || weights.is_wanted() {
        return Err(Error::NoGradient(OP));
    }
    let frames: Vec<&Value> = frames.iter().map(Var::value).collect();
    let residual: Option<Vec<&Value>> = residual.map(|residual| residual.iter().map(Var::value).collect());
    let call = Frames { frames: &frames, wanted, weights, input, residual: residual.as_deref(), shape: first };
    let backend = backend::of(frames.iter().chain(residual.iter().flatten()).copied());
    Ok(backend.convolution_over_frames(&call)?.into_iter().map(|frame| tape.constant(frame)).collect())
}

/// The arguments of a convolution of images, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Images<'c> {
    pub(crate) x: &'c Value,
    pub(crate) weights: &'c ConvolutionWeights,
    /// The unpacked weight, if the tape records.
    pub(crate) recorded: Option<&'c Value>,
    pub(crate) options: &'c Convolution<'c>,
    pub(crate) residual: Option<&'c Value>,
    /// The shape of the result.
    pub(crate) shape: [usize; 4],
}

/// The arguments of a convolution over frames, checked.
#[expect(clippy::struct_field_names, reason = "`frames` are the frames")]
#[derive(Debug, Clone)]
pub(crate) struct Frames<'c> {
    pub(crate) frames: &'c [&'c Value],
    pub(crate) wanted: Range<usize>,
    pub(crate) weights: &'c ConvolutionWeights,
    pub(crate) input: Option<&'c Normalisation>,
    pub(crate) residual: Option<&'c [&'c Value]>,
    /// The shape of a frame of the result.
    pub(crate) shape: [usize; 4],
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
