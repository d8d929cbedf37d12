//! Conversions between videos, `[b, f, c, h, w]`, and the channels-last frames of the layers.

use candle_core::{DType, Tensor};

use crate::finite::expect_finite;
use crate::{Error, Result};

/// Frame `index` of `[n, c, h, w]` as `[1, h, w, c]`.
pub(super) fn channels_last(x: &Tensor, index: usize) -> Result<Tensor> {
    Ok(x.narrow(0, index, 1)?.permute((0, 2, 3, 1))?.contiguous()?)
}

/// Frames `[1, h, w, c]` as `[n, c, h, w]`.
pub(super) fn channels_first(frames: &[Tensor]) -> Result<Tensor> {
    let frames = frames.iter().map(|frame| frame.permute((0, 3, 1, 2))).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&frames, 0)?.contiguous()?)
}

/// Checks that `x` `[n, c, h, w]` has at least one frame, `channels` channels and sides that are multiples of `multiple`; returns
/// it as f32.
pub(super) fn check(name: &str, x: &Tensor, channels: usize, multiple: usize) -> Result<Tensor> {
    match x.dims() {
        &[n, c, h, w] if n > 0 && c == channels && h > 0 && w > 0 && h.is_multiple_of(multiple) && w.is_multiple_of(multiple) => {
            Ok(x.to_dtype(DType::F32)?)
        }
        other => Err(Error::Shape {
            name: name.into(),
            expected: format!("[n, {channels}, h, w], not empty, height and width multiples of {multiple}"),
            got: other.to_vec(),
        }),
    }
}

/// Applies `moments` to the frames `[b·f, 3, h, w]` of `pixels` `[b, f, 3, h, w]`; gives `[b, f, m, h', w']` and checks that all
/// values are finite.
pub(super) fn clip_moments(pixels: &Tensor, moments: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let (pixels, clips) = flatten("pixels", pixels)?;
    let moments = moments(&pixels)?;
    expect_finite(&moments, || "what the autoencoder makes of the frames".into())?;
    unflatten(&moments, clips)
}

/// `[b, f, …]` as `[b·f, …]`, and `b` and `f`.
pub(super) fn flatten(name: &str, x: &Tensor) -> Result<(Tensor, [usize; 2])> {
    match x.dims() {
        &[b, f, c, h, w] => Ok((x.reshape((b * f, c, h, w))?, [b, f])),
        other => Err(Error::Shape { name: name.into(), expected: "[b, f, c, h, w]".into(), got: other.to_vec() }),
    }
}

/// `[b·f, …]` as `[b, f, …]`.
pub(super) fn unflatten(x: &Tensor, [b, f]: [usize; 2]) -> Result<Tensor> {
    let (_, c, h, w) = x.dims4()?;
    Ok(x.reshape((b, f, c, h, w))?)
}
