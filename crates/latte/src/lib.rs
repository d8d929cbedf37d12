//! Generates videos with latent diffusion transformers (Latte, arXiv 2401.03048).
//!
//! A class-conditional or unconditional model: a run folder of `latte train`, or an official checkpoint.
//!
//! ```no_run
//! use latte::{ClassRequest, Device, Generator};
//!
//! # fn main() -> latte::Result<()> {
//! let model = Generator::open("ffs.pt")?.autoencoder("sd-vae-ft-ema").on(Device::auto()?).load()?;
//! model.generate(&ClassRequest::unconditional().seed(7))?.save_mp4("out.mp4")?;
//! # Ok(())
//! # }
//! ```
//!
//! Text to video, with a model in the diffusers layout:
//!
//! ```no_run
//! use latte::{CancelToken, NoProgress, Residency, Sampler, TextRequest, TextToVideo};
//!
//! # fn main() -> latte::Result<()> {
//! let model = TextToVideo::open("Latte-1")?.residency(Residency::Staged).load()?;
//! let request = TextRequest::new("a lighthouse").sampler(Sampler::DpmMultistep).steps(20);
//! model.generate_with(&request, &mut NoProgress, &CancelToken::new())?.save_mp4("lighthouse.mp4")?;
//! # Ok(())
//! # }
//! ```
//!
//! | to | type | example |
//! |---|---|---|
//! | generate with a class model | [`Generator`], [`ClassRequest`] | `examples/generate.rs` |
//! | generate from text | [`TextToVideo`], [`TextRequest`] | `examples/text_to_video.rs` |
//! | keep a model in memory | [`Residency`] | `examples/text_to_video.rs` |
//! | show progress and previews | [`Progress`], [`GenerationProgress`] | `examples/generate.rs` |
//! | stop, save, resume | [`CancelToken`], [`GenerationState`], [`Resumable`] | `examples/generate.rs` |
//! | generate the same video again | [`Sidecar`] | `latte t2v --from` |
//! | write a sampler of your own | [`latte_model::sampling::Solver`] | `examples/custom_sampler.rs` |
//! | write an operation of your own | [`latte_ops::Op`] | `latte-ops/examples/custom_op.rs` |
//! | train | `latte_train::Trainer` | `latte-train/examples/train.rs` |
//! | evaluate (FVD, FID, IS) | `latte_eval::compare` | `latte-eval/examples/evaluate.rs` |

mod cache;
mod class_model;
mod clip;
mod device;
mod error;
mod generation_state;
mod generator;
mod progress;
mod request;
mod text_to_video;

pub use cache::Cache;
pub use class_model::{ClassModel, ClassModelConfig, ClipPixels, DEFAULT_GUIDANCE, Request, SamplingParams};
pub use clip::{GeneratedClip, MAX_ROWS, contact_sheet_of};
pub use device::Device;
pub use error::{Error, Result};
pub use generation_state::{GenerationState, Resumable};
pub use generator::{Generator, GeneratorBuilder};
pub use latte_progress::{NoProgress, OneOf, Progress, Stage};
pub use progress::{GenerationProgress, TextOf};
pub use request::{ClassId, ClassRequest};
pub use text_to_video::{
    EncodedTexts, Residency, Sidecar, TemporalDecoding, TextRequest, TextSettings, TextToVideo, TextToVideoBuilder,
    TextToVideoParts, Transformer,
};

pub use latte_model::sampling::{Sampler, StepReport};
pub use latte_ops::{CancelToken, Precision};
pub use latte_video::Clip;
