//! The network as a denoiser for diffusion, with its condition bound. Samplers may work on another device than the network: values
//! are moved to the device of the weights and back.

use candle_core::Tensor;
use latte_ops::{CancelToken, PackedWeightCache, Parameters, Precision, Tape};

use super::{Input, Latte};
use crate::{Denoiser, Result, host};

/// A network with weights and, if it is conditioned, the condition of every clip of the batch.
#[derive(Debug, Clone)]
pub struct LatteDenoiser<'m> {
    /// The network.
    pub model: &'m Latte,
    /// Its weights.
    pub parameters: &'m Parameters,
    /// The class of each clip, for class-conditional models.
    pub labels: Option<Vec<u32>>,
    /// Text embeddings `[b, length, width]`, for text-conditional models.
    pub text: Option<Tensor>,
    /// The precision of matmuls.
    pub precision: Precision,
    /// The cache of weights packed for matmuls, kept from step to step.
    pub packed_weights: PackedWeightCache,
    /// Stops a prediction between two blocks.
    pub cancel: CancelToken,
}

impl Denoiser for LatteDenoiser<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        let input = Input { labels: self.labels.as_deref(), text: self.text.as_ref(), ..Input::new(x, timesteps) };
        let tape = Tape::inference()
            .with_precision(self.precision)
            .with_packed_weight_cache(&self.packed_weights)
            .with_cancel(&self.cancel);
        host::beside(&self.model.forward(&tape, self.parameters, &input)?.to_host()?, x)
    }
}
