//! The layers of networks, each built once from a `ParamScope` with its full name.
//!
//! A layer holds no values: each pass gets them as `Parameters`, so that weights and their moving average use the same network. The
//! features that concern every layer of a kind (freezing, adapters, and how queries, keys and values of files become one layer in
//! memory) are implemented only here.

mod adaptation;
mod adapter;
mod attention;
mod linear;
mod mlp;
mod modulation;
mod norm;
mod parameter;
mod patches;
mod scope;
mod table;
mod timestep;

pub use adaptation::Adaptation;
pub(crate) use attention::{CrossAttention, SelfAttention};
pub(crate) use linear::Linear;
pub(crate) use mlp::Mlp;
pub(crate) use modulation::{Modulation, ShiftScaleGate};
pub(crate) use norm::Norm;
pub use parameter::ParameterSpec;
pub(crate) use parameter::{Init, Param};
pub(crate) use patches::{Patches, unpatchify};
pub(crate) use scope::ParamScope;
pub(crate) use table::ParameterTable;
pub(crate) use timestep::TimestepEmbedder;

use candle_core::Tensor;
use latte_ops::{Parameters, Tape, Var};

use crate::Result;

/// A tensor without gradient, on the device of the weights.
pub(crate) fn constant(tape: &Tape<'_>, weights: &Parameters, tensor: &Tensor) -> Result<Var> {
    Ok(tape.constant(weights.beside(tensor)?))
}
