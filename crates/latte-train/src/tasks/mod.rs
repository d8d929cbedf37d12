//! What can be trained: each task knows its network, its data and its loss.

pub(crate) mod autoencoder;
pub(crate) mod class;
pub(crate) mod denoising;
pub(crate) mod text_to_video;

pub use autoencoder::{AutoencoderTask, FrameBatch, autoencoder};
pub use class::{ClassTask, class, class_on};
