//! The configuration of the diffusion process.

use serde::{Deserialize, Serialize};

use super::schedule::BetaSchedule;

/// The quantity that the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise ε (Latte's choice).
    Epsilon,
    /// The clean latent x0.
    X0,
    /// v = √ᾱ ε − √(1−ᾱ) x0 (Salimans & Ho 2022).
    Velocity,
}

/// The variance of p(x₍ₜ₋₁₎ | xₜ).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceType {
    /// β̃, the exact variance if the data is a single point.
    FixedSmall,
    /// β, the exact variance if the data is standard normal.
    FixedLarge,
    /// The network's second half of channels is log σ².
    Learned,
    /// The network's second half of channels v ∈ [−1, 1] interpolates log σ² between log β̃ and log β (Latte's choice).
    LearnedRange,
}

impl VarianceType {
    /// Whether the network predicts twice the latent's channels, the second half for the variance.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

/// The training loss (Nichol & Dhariwal 2021, §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Squared error of the prediction; with a learned variance plus the variational term, which trains only the variance.
    Mse,
    /// As `Mse`, the variational term times (number of steps) / 1000.
    RescaledMse,
    /// The variational term alone, in bits per dimension.
    Kl,
    /// As `Kl`, times the number of steps: an estimate of the whole bound.
    RescaledKl,
}

/// The diffusion process. The default is the official one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Timesteps T of the process that the network is trained on.
    pub num_timesteps: usize,
    /// The β schedule.
    pub noise_schedule: BetaSchedule,
    /// The quantity that the network predicts.
    pub prediction: PredictionType,
    /// The variance of a reverse step. A learned one doubles the network's output channels.
    pub variance: VarianceType,
    /// The training loss.
    pub loss: LossType,
}

impl Default for DiffusionConfig {
    /// 1000 steps, linear schedule, ε, learned range, plain MSE: the configuration of every official checkpoint.
    fn default() -> Self {
        Self {
            num_timesteps: 1000,
            noise_schedule: BetaSchedule::Linear,
            prediction: PredictionType::Epsilon,
            variance: VarianceType::LearnedRange,
            loss: LossType::Mse,
        }
    }
}
