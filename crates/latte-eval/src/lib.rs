//! Scores sets of clips: detectors turn clips into features, metrics turn features into numbers, and a protocol says exactly
//! how both are done.
//!
//! This crate sees clips and features, never a denoiser: it scores what any program made.
//!
//! Shape letters: `n` clips, `f` frames, `c` channels, `h w` height and width, `d` width of a feature.

pub mod clips;
pub mod compare;
pub mod detector;
pub mod extract;
pub mod features;
pub mod framing;
pub mod interop;
pub mod jpeg;
pub mod metric;
pub mod plan;
pub mod protocol;
pub mod resize;
pub mod score;

mod error;
mod request;

pub use error::{Error, Result};
pub use latte_progress::{NoProgress, Progress, Stage};
