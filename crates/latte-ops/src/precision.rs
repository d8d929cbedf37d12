//! In which precision matrices are multiplied.

use candle_core::{DType, Tensor};

/// In which precision the operands of matmuls are held. Sums, the residual stream, norms and softmax are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// f32 operands.
    #[default]
    F32,
    /// Operands rounded to bfloat16, matmuls accumulated in f32.
    Bf16,
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
