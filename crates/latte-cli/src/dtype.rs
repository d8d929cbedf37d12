//! The precision that a user asks for.

use clap::ValueEnum;
use latte_ops::Precision;
use serde::{Deserialize, Serialize};

/// In which precision matrix products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dtype {
    /// f32 operands.
    F32,
    /// Operands rounded to bfloat16, products accumulated in f32.
    Bf16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}
