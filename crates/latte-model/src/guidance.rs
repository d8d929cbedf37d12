//! Classifier-free guidance (Ho & Salimans 2022), for class models and text-to-video.

use candle_core::{DType, Tensor};

use crate::diffusion::Denoiser;
use crate::{Error, Result};

/// The channels of a prediction that are guided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuidedChannels {
    /// The first channels (the number of the latent's), the noise; the variance channels after them keep the conditional
    /// prediction. The rule of class models.
    First(usize),
    /// All channels, the variance too. The rule of text-to-video models.
    All,
}

/// Combines a conditional prediction c and an unconditional prediction u: u + scale · (c − u).
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// The guidance scale; 1 is no guidance.
    pub scale: f64,
    /// The guided channels.
    pub channels: GuidedChannels,
    /// The first and the last of the original timesteps with guidance; at the others the prediction is c (Kynkäänniemi et al.
    /// 2024). `None`: guidance at all timesteps.
    pub interval: Option<[f64; 2]>,
    /// The share, 0 (none) to 1, by which the standard deviation of the guided channels is rescaled to that of c (Lin et al. 2024,
    /// equation 16): large scales overexpose.
    pub rescale: f64,
}

impl Guidance {
    /// Guidance at all timesteps, without rescaling.
    pub fn new(scale: f64, channels: GuidedChannels) -> Self {
        Self { scale, channels, interval: None, rescale: 0.0 }
    }

    /// Checks that the values are possible.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the key that is wrong: `guidance`, `guidance-interval` or `guidance-rescale`.
    pub fn check(&self) -> Result<()> {
        if !self.scale.is_finite() {
            return Err(Error::config("guidance", format!("expected a number, got {}", self.scale)));
        }
        if let Some([from, to]) = self.interval
            && !(from.is_finite() && to.is_finite() && from <= to)
        {
            let what = format!("expected two timesteps, the smaller one first, got {from} and {to}");
            return Err(Error::config("guidance-interval", what));
        }
        if !(0.0..=1.0).contains(&self.rescale) {
            return Err(Error::config("guidance-rescale", format!("expected 0 to 1, got {}", self.rescale)));
        }
        Ok(())
    }

    /// Whether guidance changes predictions at this timestep.
    fn acts_at(&self, timestep: f64) -> bool {
        self.scale != 1.0 && self.interval.is_none_or(|[from, to]| (from..=to).contains(&timestep))
    }

    /// The guided prediction.
    ///
    /// # Shapes
    ///
    /// `conditional` and `unconditional` are `[b, f, c', h, w]`, with at least the guided channels; so is the result.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit.
    pub fn combine(&self, conditional: &Tensor, unconditional: &Tensor) -> Result<Tensor> {
        let dims = conditional.dims();
        let channels = match self.channels {
            GuidedChannels::First(channels) => channels,
            GuidedChannels::All => dims.get(2).copied().unwrap_or(0),
        };
        if dims.len() != 5 || unconditional.dims() != dims || channels == 0 || dims[2] < channels {
            return Err(Error::Shape {
                name: "the predictions to guide".into(),
                expected: format!("two of the same shape [b, f, at least {channels}, h, w]"),
                got: [dims, unconditional.dims()].concat(),
            });
        }
        let guided_part = conditional.narrow(2, 0, channels)?; // [b, f, c, h, w]
        let unguided_part = unconditional.narrow(2, 0, channels)?; // [b, f, c, h, w]
        let mut guided = (&unguided_part + ((&guided_part - &unguided_part)? * self.scale)?)?;
        if self.rescale != 0.0 {
            guided = self.rescaled(&guided, &guided_part)?;
        }
        if dims[2] == channels {
            return Ok(guided);
        }
        let rest = conditional.narrow(2, channels, dims[2] - channels)?;
        Ok(Tensor::cat(&[&guided, &rest], 2)?) // [b, f, c', h, w]
    }

    /// φ · guided · (deviation of c / deviation of guided) + (1 − φ) · guided, for each sample.
    fn rescaled(&self, guided: &Tensor, conditional: &Tensor) -> Result<Tensor> {
        let (ours, theirs) = (deviations(guided)?, deviations(conditional)?);
        let factor = |(ours, theirs): (&f64, &f64)| {
            // A constant prediction has a deviation of 0, which cannot be rescaled.
            let ratio = if *ours > 0.0 { theirs / ours } else { 1.0 };
            self.rescale * ratio + 1.0 - self.rescale
        };
        let factors: Vec<f64> = ours.iter().zip(&theirs).map(factor).collect();
        let factors = Tensor::from_vec(factors, (ours.len(), 1, 1, 1, 1), &candle_core::Device::Cpu)?;
        Ok(guided.broadcast_mul(&factors.to_dtype(guided.dtype())?.to_device(guided.device())?)?)
    }
}

/// The standard deviation of the values of each sample.
fn deviations(x: &Tensor) -> Result<Vec<f64>> {
    let samples: Vec<Vec<f64>> = x.flatten_from(1)?.to_dtype(DType::F64)?.to_vec2()?;
    let deviation = |values: &Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    Ok(samples.iter().map(deviation).collect())
}

/// A network that also predicts without its condition.
pub trait ConditionalDenoiser {
    /// Predicts `x` `[b, f, c, h, w]` under the conditions of its samples; as [`Denoiser::predict`].
    ///
    /// # Errors
    ///
    /// As [`Denoiser::predict`].
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor>;

    /// Predicts `x` `[b, f, c, h, w]` under its conditions and without them, in this order.
    ///
    /// # Errors
    ///
    /// As [`Denoiser::predict`].
    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> Result<(Tensor, Tensor)>;
}

/// A network with guidance. At timesteps without guidance it predicts once, else on twice the batch.
#[derive(Debug, Clone)]
pub struct Guided<D> {
    /// The network, bound to the conditions of its samples.
    pub inner: D,
    /// The guidance.
    pub guidance: Guidance,
}

impl<D: ConditionalDenoiser> Denoiser for Guided<D> {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        let guided: Vec<bool> = timesteps.iter().map(|&t| self.guidance.acts_at(t)).collect();
        if !guided.contains(&true) {
            return self.inner.predict_conditional(x, timesteps);
        }
        let (conditional, unconditional) = self.inner.predict_both(x, timesteps)?;
        let combined = self.guidance.combine(&conditional, &unconditional)?;
        if !guided.contains(&false) {
            return Ok(combined);
        }
        // Some samples of the batch are inside the interval, some outside.
        let of_sample = |(i, guided): (usize, &bool)| (if *guided { &combined } else { &conditional }).get(i);
        let samples = guided.iter().enumerate().map(of_sample).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::stack(&samples, 0)?) // [b, f, c', h, w]
    }
}

/// `x` twice, `[2b, f, c, h, w]`, with its timesteps: the input of both predictions in one batch.
///
/// # Errors
///
/// If memory runs out.
pub fn doubled(x: &Tensor, timesteps: &[f64]) -> Result<(Tensor, Vec<f64>)> {
    Ok((Tensor::cat(&[x, x], 0)?, [timesteps, timesteps].concat()))
}

/// The two halves of a prediction `[2b, f, c', h, w]`.
///
/// # Errors
///
/// If memory runs out.
pub fn halves(prediction: &Tensor) -> Result<(Tensor, Tensor)> {
    let half = prediction.dims()[0] / 2;
    Ok((prediction.narrow(0, 0, half)?, prediction.narrow(0, half, half)?))
}
