//! The weights of a convolution in the order in which products read them.

use candle_core::Tensor;

use crate::gemm::{Kernel, Matrix, Packed};
use crate::{Error, Precision, Result};

/// The weight and bias of a convolution, packed once for the processor's instructions.
#[derive(Debug)]
pub struct ConvolutionWeights {
    pub(super) packed: Packed,
    pub(super) bias: Vec<f32>,
    pub(super) input: usize,
    pub(super) output: usize,
    /// Height and width of the kernel.
    pub(super) size: [usize; 2],
}

impl ConvolutionWeights {
    /// Packs a weight `[out, in, height, width]` and a bias `[out]`. A kernel over frames has the frames for its height and a
    /// width of 1.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit or are empty, or the tensors are not f32 on the CPU.
    pub fn new(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Self> {
        let fits = weight.rank() == 4 && weight.elem_count() > 0 && bias.dims() == &weight.dims()[..1];
        if !fits {
            let expected = "a weight [out, in, height, width] and a bias [out], not empty";
            return Err(Error::shape("convolution", expected, (weight.dims(), bias.dims())));
        }
        let (output, input, height, width) = weight.dims4()?;
        let kernel = Kernel::of(precision);
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
        let packed = Packed::new(kernel, Matrix::rows(&rows, k).transposed(), k, output);
        Ok(Self { packed, bias: bias.to_vec1()?, input, output, size: [height, width] })
    }

    /// How many channels come in.
    pub fn input_channels(&self) -> usize {
        self.input
    }

    /// How many channels go out.
    pub fn output_channels(&self) -> usize {
        self.output
    }

    /// How many bytes the packed weights take.
    pub fn size_in_bytes(&self) -> usize {
        self.packed.size() + size_of_val(self.bias.as_slice())
    }
}

/// Channels as products read them: an even number, so that no pair of bfloat16 spans two pixels.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(2)
}
