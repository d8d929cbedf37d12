//! Min-SNR weighting (Hang et al. 2023, arXiv 2303.09556): every timestep's squared error pulls about as hard as the others'.

use super::PredictionType;
use crate::{Error, Result};

/// Weights of the squared error by its timestep. With the signal-to-noise ratio SNR = ᾱ / (1 − ᾱ) the error of x0 counts
/// min(SNR, γ), whatever the network predicts:
///
/// | prediction | weight of its squared error |
/// |---|---|
/// | x0 | min(SNR, γ) |
/// | ε | min(SNR, γ) / SNR |
/// | v | min(SNR, γ) / (SNR + 1) |
///
/// The variational term keeps its weight. It trains the variance only, and the weights are for timesteps that pull the
/// prediction in different directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinSnr {
    gamma: f64,
}

impl MinSnr {
    /// Weights with this γ; the paper has 5.
    ///
    /// # Errors
    ///
    /// If `gamma` is no positive number.
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
            // min(SNR, γ) / SNR, in a form that pure noise (SNR = 0) does not break.
            PredictionType::Epsilon => (self.gamma / snr).min(1.0),
            PredictionType::Velocity => snr.min(self.gamma) / (snr + 1.0),
        }
    }
}
