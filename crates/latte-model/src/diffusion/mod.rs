//! The diffusion process. It knows networks only as a [`Denoiser`].

mod config;
mod likelihood;
mod loss;
mod min_snr;
mod process;
mod schedule;
mod spacing;
mod timestep_sampling;

use candle_core::Tensor;

use crate::Result;

pub use config::{DiffusionConfig, LossType, PredictionType, VarianceType};
pub use likelihood::BitsPerDimension;
pub use loss::LossTerms;
pub use min_snr::MinSnr;
pub use process::{Diffusion, Posterior, ReverseStep};
pub(crate) use schedule::linspace;
pub use schedule::{BetaSchedule, NoiseSchedule};
pub use spacing::{TimestepSpacing, space_timesteps};
pub use timestep_sampling::{LossSecondMoment, TimestepDraw, TimestepSampler, TimestepSampling};

/// The interface of a network for diffusion and samplers. Conditions (class, text) are bound inside the implementation.
pub trait Denoiser {
    /// Predicts noise, x0 or velocity from noisy latents.
    ///
    /// # Shapes
    ///
    /// `x` is `[b, f, c, h, w]`, f32; `timesteps` has `b` entries on the original scale (0 ..= 999; samplers with continuous noise
    /// levels pass fractions). Returns `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` with the variance values after the prediction.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit the network, or the device fails.
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor>;
}
