//! The weights of a convolution in the order in which matmuls read them.

use candle_core::Tensor;

use crate::backend::cpu::gemm::{Kernel, Matrix, Packed};
use crate::{Precision, Result};

/// The packed weight and the bias.
#[derive(Debug)]
pub(crate) struct PackedForm {
    pub(super) packed: Packed,
    pub(super) bias: Vec<f32>,
}

impl PackedForm {
    /// Packs a weight `[out, in, height, width]` and a bias `[out]`.
    pub(super) fn new(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Self> {
        let (output, input, height, width) = weight.dims4()?;
        let depth = padded(input);
        let k = height * width * depth;
        // [out, in, height, width] to rows [height, width, in padded] of each output.
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let mut rows = vec![0f32; output * k];
        for (place, &value) in values.iter().enumerate() {
            let (column, place) = (place % width, place / width);
            let (row, place) = (place % height, place / height);
            let (channel, out) = (place % input, place / input);
            rows[out * k + (row * width + column) * depth + channel] = value;
        }
        let packed = Packed::new(Kernel::of(precision), Matrix::rows(&rows, k).transposed(), k, output);
        Ok(Self { packed, bias: bias.to_vec1()? })
    }

    /// The size of the packed weight in bytes.
    pub(crate) fn size_in_bytes(&self) -> usize {
        self.packed.size() + size_of_val(self.bias.as_slice())
    }
}

/// The number of channels after padding to an even number, so that no pair of bfloat16 spans two pixels.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(2)
}
