//! Where networks, samplers, text encoders and autoencoders meet: the only such place.

mod class_model;
mod generation_state;
pub mod kept;
mod settings;
mod text_to_video;

pub use class_model::{ClassModel, ClassModelConfig, ClipPixels, DEFAULT_GUIDANCE, Request, SamplingParams};
pub use generation_state::{GenerationState, Resumable};
pub use settings::{T2vSettings, TemporalDecoding};
pub use text_to_video::{EncodedTexts, TextToVideo, Transformer};
