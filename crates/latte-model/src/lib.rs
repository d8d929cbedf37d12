//! Latent diffusion transformers for video (Latte, arXiv 2401.03048): networks, diffusion and sampling.
//!
//! This crate knows no optimiser, no video file and no HTTP. Pixels are tensors `[b, f, 3, h, w]` in [−1, 1].
//!
//! Shape letters, used in comments throughout: `b` batch, `f` frames, `c` channels, `h w` height and width, `n` tokens per
//! frame, `d` hidden size, `l` text length; `t` is only ever the diffusion time.

pub mod checkpoint;
pub mod diffusion;
pub mod guidance;
pub mod layers;
pub mod model;
pub mod noise;
pub mod sampling;
pub mod text;
pub mod vae;

mod error;
pub mod finite;
mod host;

pub use diffusion::Denoiser;
pub use error::{Error, Result};
pub use latte_weights as weights;
