//! Conversions of the network's output to the clean latent and to the noise.

use candle_core::{DType, Tensor};

use super::SolverConfig;
use crate::diffusion::PredictionType;
use crate::{Error, Result};

/// A noise level as the factors of x0 and ε in x.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
}

impl Factors {
    /// √ᾱ and √(1−ᾱ).
    pub(super) fn of_alpha_cumprod(alpha_cumprod: f64) -> Self {
        Self { alpha: alpha_cumprod.sqrt(), sigma: (1.0 - alpha_cumprod).sqrt() }
    }

    /// The same from σ = √((1−ᾱ)/ᾱ).
    pub(super) fn of_sigma(sigma: f64) -> Self {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { alpha, sigma: sigma * alpha }
    }
}

/// The network's output without variance channels, `[b, f, c, h, w]`, and the variance channels if there are any.
pub(super) fn split_channels(prediction: &Tensor, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    if prediction.dims() == x.dims() {
        return Ok((prediction.clone(), None));
    }
    let mut doubled = x.dims().to_vec();
    if let Some(channels) = doubled.get_mut(2) {
        *channels *= 2;
    }
    if prediction.dims() != doubled {
        return Err(Error::Shape {
            name: "the network's prediction".into(),
            expected: format!("{:?}, or twice the channels with variance values behind the prediction", x.dims()),
            got: prediction.dims().to_vec(),
        });
    }
    let channels = x.dims()[2];
    Ok((prediction.narrow(2, 0, channels)?, Some(prediction.narrow(2, channels, channels)?)))
}

/// x0 from a prediction (without variance channels) for x = α x0 + σ ε.
pub(super) fn x0(kind: PredictionType, prediction: &Tensor, x: &Tensor, at: Factors) -> Result<Tensor> {
    match kind {
        PredictionType::Epsilon => combine(&[(1.0 / at.alpha, x), (-at.sigma / at.alpha, prediction)]),
        PredictionType::X0 => Ok(prediction.clone()),
        PredictionType::Velocity => combine(&[(at.alpha, x), (-at.sigma, prediction)]),
    }
}

/// ε from a prediction (without variance channels) for x = α x0 + σ ε.
pub(super) fn epsilon(kind: PredictionType, prediction: &Tensor, x: &Tensor, at: Factors) -> Result<Tensor> {
    match kind {
        PredictionType::Epsilon => Ok(prediction.clone()),
        PredictionType::X0 => epsilon_of_x0(prediction, x, at),
        PredictionType::Velocity => combine(&[(at.alpha, prediction), (at.sigma, x)]),
    }
}

/// The ε with which x = α x0 + σ ε.
pub(super) fn epsilon_of_x0(x0: &Tensor, x: &Tensor, at: Factors) -> Result<Tensor> {
    combine(&[(1.0 / at.sigma, x), (-at.alpha / at.sigma, x0)])
}

/// The x0 of a prediction (without variance channels), limited to its range, and the prediction that corresponds to it.
pub(super) fn limited(
    kind: PredictionType,
    prediction: Tensor,
    x: &Tensor,
    at: Factors,
    limit: Limit,
) -> Result<(Tensor, Tensor)> {
    let x0 = x0(kind, &prediction, x, at)?;
    if limit == Limit::Off {
        return Ok((prediction, x0));
    }
    let x0 = limit.apply(x0)?;
    let prediction = match kind {
        PredictionType::Epsilon => epsilon_of_x0(&x0, x, at)?,
        PredictionType::X0 => x0.clone(),
        PredictionType::Velocity => combine(&[(at.alpha / at.sigma, x), (-1.0 / at.sigma, &x0)])?,
    };
    Ok((prediction, x0))
}

/// x0 from a prediction (without variance channels) for x = x0 + σ ε, where the network's input was x / √(σ²+1).
pub(super) fn x0_in_sigma(kind: PredictionType, prediction: &Tensor, x: &Tensor, sigma: f64) -> Result<Tensor> {
    match kind {
        PredictionType::Epsilon => combine(&[(1.0, x), (-sigma, prediction)]),
        PredictionType::X0 => Ok(prediction.clone()),
        PredictionType::Velocity => {
            let size = sigma * sigma + 1.0;
            combine(&[(-sigma / size.sqrt(), prediction), (1.0 / size, x)])
        }
    }
}

/// The weighted sum of tensors of one shape. Here f64 is converted to the dtype of the tensors.
pub(super) fn combine(terms: &[(f64, &Tensor)]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for &(factor, tensor) in terms {
        if !factor.is_finite() {
            return Err(Error::config(
                "solver",
                format!("a step has the factor {factor}: this noise schedule is out of the method's reach"),
            ));
        }
        if factor == 0.0 {
            continue;
        }
        let term = if factor == 1.0 { tensor.clone() } else { (tensor * factor)? };
        sum = Some(match sum {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    match (sum, terms.first()) {
        (Some(sum), _) => Ok(sum),
        (None, Some((_, tensor))) => Ok(tensor.zeros_like()?),
        (None, None) => Err(Error::config("solver", "a sum of no terms")),
    }
}

/// The limit of a predicted x0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    Off,
    /// Clamps to ± this.
    Clip(f64),
    /// Dynamic thresholding (Saharia et al. 2022): each sample is clamped to the `ratio` quantile of its absolute values, limited
    /// to the range from 1 to `largest`, and divided by it.
    Threshold {
        ratio: f64,
        largest: f64,
    },
}

impl Limit {
    pub(super) fn new(config: &SolverConfig) -> Self {
        if config.thresholding {
            Self::Threshold { ratio: config.dynamic_thresholding_ratio, largest: config.sample_max_value }
        } else if config.clip_sample {
            Self::Clip(config.clip_sample_range)
        } else if config.clip_denoised {
            Self::Clip(1.0)
        } else {
            Self::Off
        }
    }

    pub(super) fn apply(self, x0: Tensor) -> Result<Tensor> {
        match self {
            Self::Off => Ok(x0),
            Self::Clip(range) => Ok(x0.clamp(-range, range)?),
            Self::Threshold { ratio, largest } => {
                let samples = x0.dims().first().copied().unwrap_or(0);
                let limited = (0..samples).map(|i| threshold(&x0.get(i)?, ratio, largest)).collect::<Result<Vec<_>>>()?;
                if limited.is_empty() { Ok(x0) } else { Ok(Tensor::stack(&limited, 0)?) } // [b, …]
            }
        }
    }
}

fn threshold(sample: &Tensor, ratio: f64, largest: f64) -> Result<Tensor> {
    let mut sizes: Vec<f64> = sample.abs()?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    if sizes.is_empty() {
        return Ok(sample.clone());
    }
    sizes.sort_by(f64::total_cmp);
    let position = ratio * (sizes.len() - 1) as f64;
    let low = (position as usize).min(sizes.len() - 1);
    let high = (low + 1).min(sizes.len() - 1);
    let quantile = sizes[low] + (sizes[high] - sizes[low]) * (position - low as f64);
    let bound = quantile.max(1.0).min(largest);
    Ok((sample.clamp(-bound, bound)? / bound)?)
}
