//! In which precision matrices are multiplied.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// In which precision the operands of matmuls are held. Sums, the residual stream, norms and softmax are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 operands.
    #[default]
    F32,
    /// Operands rounded to bfloat16, matmuls accumulated in f32.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::F32, Self::Bf16]
            .into_iter()
            .find(|precision| precision.to_string() == text)
            .ok_or_else(|| format!("expected f32 or bf16, got `{text}`"))
    }
}

impl Precision {
    /// An operand as the matmul sees it: rounded to the precision, held in f32.
    pub(crate) fn operand(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::F32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
        }
    }
}
