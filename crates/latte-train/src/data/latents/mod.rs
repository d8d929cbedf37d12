//! The latent cache: what a frozen encoder says of every frame of a data set, once and for all.
//!
//! A cache is a folder:
//!
//! | file | holds |
//! |---|---|
//! | `latents.jsonl` | the manifest: a line about the whole ([`CacheHeader`]), then a line for each video ([`VideoRecord`]); written last |
//! | `moments-GGGGG-P.safetensors` | the moments of some videos: `[frames, m, h, w]`, one tensor for each video and, with flips, one of the mirrored video |
//!
//! Videos come in groups of so many, in the order of the data set, and a group in one file, or in several where it would be
//! larger than a file may be. So what a file holds depends on the data set alone: processes that share the work write what one
//! would have written, and a process that was killed resumes after the last finished file. A file says in its header what it
//! was made from and which videos it holds, so that finished ones are known again without reading them.
//!
//! Moments are those of whole videos, not scaled, so that windows stay random, the draw from the posterior stays possible, and
//! training needs neither videos nor weights. A mirrored frame's latent is not the mirrored latent: flips are encoded.

mod cache;
mod encode;
mod manifest;
mod shard;

pub use cache::LatentCache;
pub use encode::{EncodeOptions, EncodeReport, encode};
pub use manifest::{CacheHeader, Manifest, MomentDtype, VideoRecord};
