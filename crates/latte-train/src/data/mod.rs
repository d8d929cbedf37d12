//! The training data: videos and their index, windows of frames, latent caches, and the threads that load clips ahead.

pub(crate) mod check;
pub(crate) mod fingerprint;
pub(crate) mod latent_draw;
pub(crate) mod latents;
pub(crate) mod loader;
pub(crate) mod source;
