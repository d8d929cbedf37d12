//! The weights of a convolution in the order in which products read them.

use candle_core::Tensor;

use crate::backend::cpu::gemm::{Kernel, Matrix, Packed};
use crate::backend::cpu::slices::is_cpu_f32;
use crate::{Error, Precision, Result};

/// What the products read.
#[derive(Debug)]
pub(crate) enum Form {
    /// For the kernels of the CPU.
    Packed(PackedForm),
    /// For the reference formulation, on any device.
    Plain { weight: Tensor, bias: Tensor, precision: Precision },
}

#[derive(Debug)]
pub(crate) struct PackedForm {
    pub(crate) packed: Packed,
    pub(crate) bias: Vec<f32>,
}

/// The weight and bias of a convolution: on the CPU packed once for the processor's instructions, elsewhere as they are.
#[derive(Debug)]
pub struct ConvolutionWeights {
    pub(crate) form: Form,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Height and width of the kernel.
    pub(crate) size: [usize; 2],
}

impl ConvolutionWeights {
    /// Packs a weight `[out, in, height, width]` and a bias `[out]`. A kernel over frames has the frames for its height and a
    /// width of 1.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit or are empty, or the tensors are not f32.
    pub fn new(weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Self> {
        let fits = weight.rank() == 4 && weight.elem_count() > 0 && bias.dims() == &weight.dims()[..1];
        if !fits {
            let expected = "a weight [out, in, height, width] and a bias [out], not empty";
            return Err(Error::shape("convolution", expected, (weight.dims(), bias.dims())));
        }
        let (output, input, height, width) = weight.dims4()?;
        let size = [height, width];
        if !is_cpu_f32(weight) {
            let form = Form::Plain { weight: weight.contiguous()?, bias: bias.contiguous()?, precision };
            return Ok(Self { form, input, output, size });
        }
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
        let form = Form::Packed(PackedForm { packed, bias: bias.to_vec1()? });
        Ok(Self { form, input, output, size })
    }

    /// How many channels come in.
    pub fn input_channels(&self) -> usize {
        self.input
    }

    /// How many channels go out.
    pub fn output_channels(&self) -> usize {
        self.output
    }

    /// How many bytes the weights take, packed where they are.
    pub fn size_in_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(PackedForm { packed, bias }) => packed.size() + size_of_val(bias.as_slice()),
            Form::Plain { weight, bias, .. } => (weight.elem_count() + bias.elem_count()) * size_of::<f32>(),
        }
    }
}

/// Channels as products read them: an even number, so that no pair of bfloat16 spans two pixels.
pub(crate) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(2)
}
