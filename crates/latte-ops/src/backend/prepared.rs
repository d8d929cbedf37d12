//! Weights in the form in which a backend reads them, prepared once and used many times.

use candle_core::Tensor;

use super::cpu::conv3d::Packed3d;
use super::cpu::convolution::weights::PackedForm;
use crate::Precision;

/// The weight and bias of a convolution.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Packed for kernels.
    Packed(PackedForm),
    /// Unchanged, for the tensor library.
    Plain { weight: Tensor, bias: Tensor, precision: Precision },
}

impl Prepared {
    /// The size in bytes.
    pub(crate) fn size_in_bytes(&self) -> usize {
        match self {
            Self::Packed(form) => form.size_in_bytes(),
            Self::Plain { weight, bias, .. } => (weight.elem_count() + bias.elem_count()) * size_of::<f32>(),
        }
    }
}

/// The weight and bias of a 3-D convolution.
#[derive(Debug)]
pub(crate) enum Prepared3d {
    /// Packed for kernels.
    Packed(Packed3d),
    /// Unchanged, for the tensor library.
    Plain { weight: Tensor, bias: Tensor },
}
