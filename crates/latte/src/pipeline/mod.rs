//! Where networks, samplers, text encoders and autoencoders meet: the only such place.

mod settings;
mod text_to_video;

pub use settings::{T2vSettings, TemporalDecoding};
pub use text_to_video::{TextToVideo, Transformer};
