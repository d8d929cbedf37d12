//! Trains a small `AutoencoderKL` on the frames of videos.
//!
//! Loss: how far the frames that come back are from those that went in, plus a small divergence that keeps latents from growing
//! without bound. Perceptual and adversarial losses, which large autoencoders add for sharp textures, are out of scope.
//!
//! The network here ([`VaeNetwork`]) is the one in `latte_model::vae` written for the tape. That one is for inference and is the check:
//! tests hold the two against each other, and what a run reports is measured with it.

mod checkpoint;
mod config;
mod export;
mod frames;
mod network;
mod step;
mod trainer;

pub use checkpoint::VaeRunState;
pub use config::{Reconstruction, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeTrainConfig, VaeValidationConfig};
pub use export::VaeReport;
pub use network::VaeNetwork;
pub use step::{VaeGradients, VaeStepper};
pub use trainer::{VaeOutcome, VaeStepRecord, VaeTrainer};
