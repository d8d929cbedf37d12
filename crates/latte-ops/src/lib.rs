//! The operations of latent diffusion transformers, each with a forward and a backward function, and the tape that joins them.
//!
//! Every operation is a folder: `mod.rs` is the function that models call, `reference.rs` the reference formulation in tensor
//! operations, and `cpu.rs`, where there is one, faster kernels that are tested against it. This is the only crate that may hold device features or `unsafe`.
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
//! let gradients = tape.backward(&y, y.tensor().ones_like()?)?;
//! assert_eq!(gradients.parameter("weight").unwrap().to_vec2::<f32>()?, [[1., 1.], [1., 1.]]);
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code, reason = "kernels call code for processor features found at run time, and strided products")]

pub mod finite_difference;

mod allocator;
mod backend;
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
pub use backend::cpu::slices::{add_assign, global_norm};
pub use backend::forced::use_reference;
pub use device::{BUILT_WITH_CUDA, DeviceChoice};
pub use error::{Error, Result};
pub use ops::attention::{Attention, AttentionAxis, attention};
pub use ops::conv3d::{Branch, Conv3d, Padding, Pool, Window, conv3d, pool3d, side_by_side};
pub use ops::convolution::{Convolution, ConvolutionWeights, convolution, convolution_over_frames, recorded_convolution};
pub use ops::cross_attention::cross_attention;
pub use ops::embedding::embedding;
pub use ops::gated_residual::gated_residual;
pub use ops::group_norm::{GroupNorm, GroupSums, Normalisation, recorded_group_norm};
pub use ops::layer_norm::layer_norm;
pub use ops::linear::{linear, linear_gated, linear_gelu, linear_low_precision};
pub use ops::modulated_layer_norm::modulated_layer_norm;
pub use ops::movement::{add, concat, mean_axis, narrow, permute, repeat_rows, reshape};
pub use ops::rope::Rope;
pub use ops::silu::silu;
pub use ops::single_head_attention::single_head_attention;
pub use optim::adamw_ema::{AdamW, AdamWState, adamw_ema};
pub use parameters::Parameters;
pub use precision::Precision;
pub use tape::{Gradients, Tape, Var};
