//! The operations of latent diffusion transformers, each with a forward and a backward function, and the tape that records them.
//!
//! `ops/` holds the operations: each function checks shapes and records. A backend, which `backend/mod.rs` alone chooses by the
//! values of the call, computes them: with kernels if the device has them, else with the reference formulation in operations of the
//! tensor library, which the kernels are tested against. [`fallbacks`] counts the reference's calls. A custom operation is an
//! [`Op`]. Only this crate may contain device features or `unsafe`.
//!
//! Shape letters: `b` batch, `f` frames, `n` tokens per frame, `d` hidden size, `k` head size, `g` groups that share one
//! conditioning vector (a multiple of `b`).
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use latte_ops::{Tape, linear};
//!
//! # fn main() -> latte_ops::Result<()> {
//! let weight = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
//! let tape = Tape::recording();
//! let x = tape.constant(Tensor::new(&[[1f32, 1.]], &Device::Cpu)?);
//! let y = linear(&tape, &x, &tape.parameter("weight", &weight), None)?; // [1, 2]
//! let gradients = tape.backward(&y, Tensor::ones((1, 2), candle_core::DType::F32, &Device::Cpu)?)?;
//! assert_eq!(gradients.parameter("weight").unwrap().to_host()?.to_vec2::<f32>()?, [[1., 1.], [1., 1.]]);
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code, reason = "kernels call code for processor features found at run time, and strided matmuls")]

pub mod finite_difference;

mod allocator;
mod backend;
mod cancel;
mod device;
mod error;
pub mod limits;
mod ops;
mod optim;
mod parameters;
mod precision;
pub mod selftest;
mod tape;

pub use allocator::CachingAllocator;
pub use backend::cpu::instruction_set::{InstructionSet, VARIABLE as INSTRUCTION_SET_VARIABLE};
pub use backend::cpu::packed_weight_cache::PackedWeightCache;
pub use backend::{Value, fallbacks, use_reference};
pub use cancel::CancelToken;
pub use device::{BUILT_WITH_CUDA, DeviceChoice};
pub use error::{Error, Result};
pub use ops::activation::{Activation, activation};
pub use ops::attention::{Attention, AttentionAxis, attention};
pub use ops::canvas::Canvas;
pub use ops::conv3d::{Branch, Conv3d, Padding, Pool, Window, conv3d, pool3d, side_by_side};
pub use ops::convolution::{Convolution, ConvolutionWeights, convolution, convolution_over_frames};
pub use ops::cross_attention::cross_attention;
pub use ops::dot_product_attention::dot_product_attention;
pub use ops::embedding::embedding;
pub use ops::gated_residual::gated_residual;
pub use ops::group_norm::{GroupNorm, GroupSums, Normalisation, group_norm};
pub use ops::layer_norm::layer_norm;
pub use ops::linear::{linear, linear_gated, linear_gelu, linear_low_precision};
pub use ops::modulated_layer_norm::modulated_layer_norm;
pub use ops::movement::{add, concat, mean_axis, mul, narrow, pad, permute, repeat_rows, reshape};
pub use ops::rms_norm::rms_norm;
pub use ops::rope::Rope;
pub use ops::silu::silu;
pub use optim::adamw_ema::{AdamW, AdamWState, adamw_ema};
pub use optim::{add_assign, global_norm};
pub use parameters::Parameters;
pub use precision::Precision;
pub use tape::{Gradients, Op, Tape, Var};
