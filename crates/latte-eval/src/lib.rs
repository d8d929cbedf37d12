//! Scores sets of clips: detectors compute features of clips, metrics compute numbers from features, and a protocol specifies both
//! exactly.
//!
//! This crate handles clips and features, never a model: it scores clips of any program.
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
