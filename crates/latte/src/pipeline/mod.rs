//! Where networks, samplers, text encoders and autoencoders meet: the only such place.

mod settings;
mod text_to_video;

pub use settings::{TemporalDecoding, T2vSettings};
pub use text_to_video::{EncodedText, TextStage, TextToVideo, Transformer};
