//! The weights of a convolution.

use crate::backend::{self, Prepared};
use crate::{Error, Result, Tape, Var};

/// The weight and bias of a convolution in the form that the device reads, prepared once and used many times. On a tape that does
/// not record, the unprepared weights are not kept.
#[derive(Debug)]
pub struct ConvolutionWeights {
    pub(crate) prepared: Prepared,
    /// The unprepared weight and bias, if the tape records.
    recorded: Option<[Var; 2]>,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Height and width of the kernel.
    pub(crate) size: [usize; 2],
}

impl ConvolutionWeights {
    /// Prepares a weight `[out, in, height, width]` and a bias `[out]` for the precision of `tape`. The weight of a convolution
    /// over frames is `[out, in, frames, 1]`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit or are empty, or the tensors are not f32.
    pub fn new(tape: &Tape<'_>, weight: &Var, bias: &Var) -> Result<Self> {
        let (output, input, size) = match *weight.dims() {
            [output, input, height, width] if weight.value().elem_count() > 0 && bias.dims() == [output] => {
                (output, input, [height, width])
            }
            _ => {
                let expected = "a weight [out, in, height, width] and a bias [out], not empty";
                return Err(Error::shape("convolution", expected, (weight.dims(), bias.dims())));
            }
        };
        let values = [weight, bias].map(Var::value);
        let prepared = backend::of(values).prepare_convolution(values[0], values[1], tape.precision())?;
        let recorded = tape.is_recording().then(|| [weight.clone(), bias.clone()]);
        Ok(Self { prepared, recorded, input, output, size })
    }

    /// The number of input channels.
    pub fn input_channels(&self) -> usize {
        self.input
    }

    /// The number of output channels.
    pub fn output_channels(&self) -> usize {
        self.output
    }

    /// The size in bytes of the prepared weights.
    pub fn size_in_bytes(&self) -> usize {
        self.prepared.size_in_bytes()
    }

    /// Whether a gradient of weight or bias is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.recorded.iter().flatten().any(Var::is_wanted)
    }

    /// The unprepared weight and bias, if a recording tape made them.
    pub(super) fn recorded(&self) -> Option<&[Var; 2]> {
        self.recorded.as_ref()
    }
}
