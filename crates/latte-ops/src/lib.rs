//! The operations of latent diffusion transformers, each with a forward and a backward function, and the tape that joins them.
//!
//! Every operation is a folder: `mod.rs` is the function that models call, `reference.rs` the plain formulation in tensor
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

mod adamw_ema;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
mod convolution;
mod device;
mod embedding;
mod error;
mod gated_residual;
mod gemm;
mod group_norm;
mod instruction_set;
mod layer_norm;
pub mod limits;
mod linear;
mod modulated_layer_norm;
mod operand;
mod packed_weights;
mod parameters;
mod plain;
mod precision;
mod recycling;
mod row_groups;
pub mod selftest;
mod shape;
mod silu;
mod slices;
mod tape;
mod vectorised;
mod volume;

pub use adamw_ema::{AdamW, AdamWState, adamw_ema};
pub use attention::{Attention, AttentionAxis, Rope, attention, cross_attention, single_head_attention};
pub use convolution::{Convolution, ConvolutionWeights, convolution, convolution_over_frames, recorded_convolution};
pub use device::{BUILT_WITH_CUDA, DeviceChoice};
pub use embedding::embedding;
pub use error::{Error, Result};
pub use gated_residual::gated_residual;
pub use group_norm::{GroupNorm, GroupSums, Normalisation, recorded_group_norm};
pub use instruction_set::{InstructionSet, VARIABLE as INSTRUCTION_SET_VARIABLE};
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_for_products, linear_gated, linear_gelu};
pub use modulated_layer_norm::modulated_layer_norm;
pub use packed_weights::PackedWeights;
pub use parameters::Parameters;
pub use plain::use_plain_formulation;
pub use precision::Precision;
pub use recycling::Recycling;
pub use shape::{add, concat, mean_axis, narrow, permute, repeat_rows, reshape};
pub use silu::silu;
pub use slices::{add_assign, global_norm};
pub use tape::{Gradients, Tape, Var};
pub use volume::{Branch, Convolution3d, Padding, Pool, Window, convolution_3d, pool_3d, side_by_side};
