//! Trains a small `AutoencoderKL` on the frames of videos.
//!
//! Loss: how far the frames that come back are from those that went in, plus a small divergence that keeps latents from growing
//! without bound. Perceptual and adversarial losses, which large autoencoders add for sharp textures, are out of scope.
//!
//! The network is that of inference, [`latte_model::vae::KlNetwork`], on a tape that records. What a run reports is measured with the
//! autoencoder as it is used afterwards.

mod checkpoint;
mod config;
mod export;
mod frames;
mod step;
mod trainer;

pub use checkpoint::VaeRunState;
pub use config::{Reconstruction, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeTrainConfig, VaeValidationConfig};
pub use export::VaeReport;
pub use step::{VaeGradients, VaeStepper};
pub use trainer::{VaeOutcome, VaeStepRecord, VaeTrainer};
