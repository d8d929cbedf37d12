//! Weights in the form in which a backend reads them, made once and used many times.

use candle_core::Tensor;

use super::cpu::conv3d::Packed3d;
use super::cpu::convolution::weights::PackedForm;
use crate::Precision;

/// The weight and bias of a convolution.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Packed for kernels.
    Packed(PackedForm),
    /// As they are, for the tensor library.
    Plain { weight: Tensor, bias: Tensor, precision: Precision },
}

impl Prepared {
    /// How many bytes they take.
    pub(crate) fn size_in_bytes(&self) -> usize {
        match self {
            Self::Packed(form) => form.size_in_bytes(),
            Self::Plain { weight, bias, .. } => (weight.elem_count() + bias.elem_count()) * size_of::<f32>(),
        }
    }
}

/// The weight and bias of a convolution of volumes.
#[derive(Debug)]
pub(crate) enum Prepared3d {
    /// Packed for kernels.
    Packed(Packed3d),
    /// As they are, for the tensor library.
    Plain { weight: Tensor, bias: Tensor },
}
