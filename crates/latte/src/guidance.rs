//! Classifier-free guidance (Ho & Salimans 2022) as the class models do it.

use candle_core::Tensor;

use crate::diffusion::Denoiser;
use crate::{Error, Result};

/// Guides a doubled prediction: ε = u + scale · (c − u) on the first `channels` channels, where c is the prediction of the
/// first half of the batch (under its conditions) and u that of the second half (under none).
///
/// Both halves get the guided ε; the channels behind it (the variance) stay what each half predicted. `scale` 1 is the
/// conditional prediction.
///
/// # Shapes
///
/// `prediction` is `[2b, f, c', h, w]` with `channels <= c'`, and so is the result.
///
/// # Errors
///
/// If the batch is odd or there are fewer than `channels` channels.
pub fn guide_class(prediction: &Tensor, scale: f64, channels: usize) -> Result<Tensor> {
    let dims = prediction.dims();
    if dims.len() != 5 || !dims[0].is_multiple_of(2) || channels == 0 || dims[2] < channels {
        return Err(Error::Shape {
            name: "the prediction to guide".into(),
            expected: format!("[2b, f, at least {channels}, h, w]"),
            got: dims.to_vec(),
        });
    }
    let half = dims[0] / 2;
    let epsilon = prediction.narrow(2, 0, channels)?;
    let conditional = epsilon.narrow(0, 0, half)?; // [b, f, c, h, w]
    let unconditional = epsilon.narrow(0, half, half)?; // [b, f, c, h, w]
    let guided = (&unconditional + ((conditional - &unconditional)? * scale)?)?;
    let guided = Tensor::cat(&[&guided, &guided], 0)?; // [2b, f, c, h, w]
    if dims[2] == channels {
        return Ok(guided);
    }
    let rest = prediction.narrow(2, channels, dims[2] - channels)?;
    Ok(Tensor::cat(&[&guided, &rest], 2)?) // [2b, f, c', h, w]
}

/// Guides a doubled prediction as the text-to-video models do: u + scale · (c − u) on all channels, where u is the prediction of
/// the *first* half of the batch (under the negative prompts) and c that of the second (under the prompts).
///
/// # Shapes
///
/// `prediction` is `[2b, f, c', h, w]`; gives `[b, f, c', h, w]`.
///
/// # Errors
///
/// If the batch is odd.
pub fn guide_text(prediction: &Tensor, scale: f64) -> Result<Tensor> {
    let dims = prediction.dims();
    if dims.len() != 5 || !dims[0].is_multiple_of(2) {
        let expected = "[2b, f, c, h, w]".to_string();
        return Err(Error::Shape { name: "the prediction to guide".into(), expected, got: dims.to_vec() });
    }
    let half = dims[0] / 2;
    let (negative, positive) = (prediction.narrow(0, 0, half)?, prediction.narrow(0, half, half)?); // [b, f, c', h, w]
    Ok((&negative + ((positive - &negative)? * scale)?)?)
}

/// A network whose condition can be taken away.
pub trait ConditionalDenoiser {
    /// Predicts `x` `[b, f, c, h, w]` under the conditions of its samples; as [`Denoiser::predict`].
    ///
    /// # Errors
    ///
    /// As [`Denoiser::predict`].
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor>;

    /// Predicts `x` `[2b, f, c, h, w]`: the first half under the conditions, the second half under none.
    ///
    /// # Errors
    ///
    /// As [`Denoiser::predict`].
    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor>;
}

/// A network under guidance. With scale 1 it predicts once, else on twice the batch.
#[derive(Debug, Clone)]
pub struct Guided<D> {
    /// The network, bound to the conditions of its samples.
    pub inner: D,
    /// The guidance scale; 1 is off.
    pub scale: f64,
    /// The latent's channels: those that are guided.
    pub channels: usize,
}

impl<D: ConditionalDenoiser> Denoiser for Guided<D> {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        if self.scale == 1.0 {
            return self.inner.predict_conditional(x, timesteps);
        }
        let doubled = Tensor::cat(&[x, x], 0)?; // [2b, f, c, h, w]
        let prediction = self.inner.predict_both(&doubled, &[timesteps, timesteps].concat())?;
        let guided = guide_class(&prediction, self.scale, self.channels)?;
        Ok(guided.narrow(0, 0, guided.dims()[0] / 2)?) // [b, f, c', h, w]
    }
}
