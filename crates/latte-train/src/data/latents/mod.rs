//! The latent cache: the output of a frozen encoder for every frame of a data set.
//!
//! A cache is a folder:
//!
//! | file | holds |
//! |---|---|
//! | `latents.jsonl` | the manifest: a line about the whole ([`CacheHeader`]), then a line for each video ([`VideoRecord`]); written last |
//! | `moments-GGGGG-P.safetensors` | the moments of some videos: `[frames, m, h, w]`, one tensor for each video and, with flips, one of the mirrored video |
//!
//! Videos are grouped in the order of the data set; a group is stored in one file, or in several if it would exceed the largest
//! file size. So the contents of a file depend on the data set alone: processes that share the work write the same files as one
//! process, and a process that was killed resumes after the last finished file. The header of a file has the source and the list of
//! videos, so finished files are recognized without reading their values.
//!
//! Moments are those of whole videos and are not scaled, so that training still draws random windows and samples from the
//! posterior, and needs neither videos nor weights. The latent of a mirrored frame is not the mirrored latent, so flips are
//! encoded.

mod cache;
mod encode;
mod manifest;
mod shard;

pub use cache::LatentCache;
pub use encode::{EncodeOptions, EncodeReport, encode};
pub use manifest::{CacheHeader, Manifest, MomentDtype, VideoRecord};
