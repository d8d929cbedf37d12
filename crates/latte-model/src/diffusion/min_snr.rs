//! Min-SNR weighting (Hang et al. 2023, arXiv 2303.09556): balances the loss weights of the timesteps.

use super::PredictionType;
use crate::{Error, Result};

/// Weights the squared error by timestep. With the signal-to-noise ratio SNR = ᾱ / (1 − ᾱ), the weight of the error of x0 is
/// min(SNR, γ), whatever the network predicts:
///
/// | prediction | weight of its squared error |
/// |---|---|
/// | x0 | min(SNR, γ) |
/// | ε | min(SNR, γ) / SNR |
/// | v | min(SNR, γ) / (SNR + 1) |
///
/// The variational term keeps its weight: it trains only the variance, while the weights balance timesteps whose gradients of the
/// prediction conflict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinSnr {
    gamma: f64,
}

impl MinSnr {
    /// Weights with this γ; the paper uses 5.
    ///
    /// # Errors
    ///
    /// If `gamma` is not a positive number.
    pub fn new(gamma: f64) -> Result<Self> {
        if gamma.is_finite() && gamma > 0.0 {
            Ok(Self { gamma })
        } else {
            Err(Error::config("min_snr_gamma", format!("expected a number above 0, got {gamma}")))
        }
    }

    /// The weight of the squared error at a timestep with `alpha_bar` = ᾱ, in [0, 1).
    pub fn weight(self, prediction: PredictionType, alpha_bar: f64) -> f64 {
        let snr = alpha_bar / (1.0 - alpha_bar);
        match prediction {
            PredictionType::X0 => snr.min(self.gamma),
            // min(SNR, γ) / SNR, in a form that is also defined for pure noise (SNR = 0).
            PredictionType::Epsilon => (self.gamma / snr).min(1.0),
            PredictionType::Velocity => snr.min(self.gamma) / (snr + 1.0),
        }
    }
}
