//! The text-to-video transformer as a denoiser for diffusion, with its texts and its guidance.

use candle_core::{DType, Tensor};
use latte_ops::{CancelToken, PackedWeightCache, Parameters, Precision, Tape};

use super::{LatteT2v, T2vInput, TextContext, text_bias};
use crate::guidance::{ConditionalDenoiser, Guidance, Guided, GuidedChannels, doubled, halves};
use crate::{Denoiser, Result, host};

/// A network with weights, bound to the prompts of its clips and, with guidance, to their negative prompts.
#[derive(Debug)]
pub struct T2vDenoiser<'m>(Guided<Bound<'m>>);

/// The network with its texts.
#[derive(Debug)]
struct Bound<'m> {
    model: &'m LatteT2v,
    parameters: &'m Parameters,
    /// The negative prompts and the prompts, `2b`; without guidance only the prompts, `b`.
    context: TextContext,
    /// With negative prompts: the prompts alone, if there are timesteps without guidance.
    alone: Option<TextContext>,
    temporal: bool,
    precision: Precision,
    packed_weights: PackedWeightCache,
    cancel: CancelToken,
}

/// The text embeddings of the clips, `[b, l, caption_channels]`, and the mask of their tokens, `[b, l]`.
#[derive(Debug, Clone, Copy)]
pub struct PromptEmbeddings<'t> {
    /// Embeddings.
    pub text: &'t Tensor,
    /// 1 for tokens, 0 for padding; `None`: no padding.
    pub mask: Option<&'t Tensor>,
}

impl PromptEmbeddings<'_> {
    fn mask_or_ones(&self) -> Result<Tensor> {
        Ok(match self.mask {
            Some(mask) => mask.to_dtype(DType::F32)?,
            None => host::beside(&host::full(1.0, &self.text.dims()[..2])?, self.text)?,
        })
    }
}

impl<'m> T2vDenoiser<'m> {
    /// Binds the network to the prompts `texts`. `guidance` is the negative prompts, of the same shape, and the settings of the
    /// guidance. The weights are packed for matmuls in `packed_weights`, which denoisers with the same parameters may share.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit.
    pub fn new(
        model: &'m LatteT2v,
        parameters: &'m Parameters,
        texts: PromptEmbeddings<'_>,
        guidance: Option<(PromptEmbeddings<'_>, Guidance)>,
        precision: Precision,
        packed_weights: &PackedWeightCache,
    ) -> Result<Self> {
        let tape = Tape::inference().with_precision(precision).with_packed_weight_cache(packed_weights);
        let (text, mask, guidance) = match guidance.filter(|(_, guidance)| guidance.scale != 1.0) {
            None => (texts.text.clone(), texts.mask.cloned(), Guidance::new(1.0, GuidedChannels::All)),
            Some((negative, guidance)) => {
                let mask = match (negative.mask, texts.mask) {
                    (None, None) => None,
                    _ => Some(Tensor::cat(&[negative.mask_or_ones()?, texts.mask_or_ones()?], 0)?), // [2b, l]
                };
                (Tensor::cat(&[negative.text, texts.text], 0)?, mask, guidance) // [2b, l, caption_channels]
            }
        };
        let bias = mask.as_ref().map(text_bias).transpose()?;
        let context = model.context(&tape, parameters, &text, bias.as_ref())?;
        let alone = guidance.interval.map(|_| context.second_half(&tape)).transpose()?;
        let packed_weights = packed_weights.clone();
        let inner =
            Bound { model, parameters, context, alone, temporal: true, precision, packed_weights, cancel: CancelToken::new() };
        Ok(Self(Guided { inner, guidance }))
    }

    /// Stops a prediction between two blocks once `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &CancelToken) -> Self {
        self.0.inner.cancel = cancel.clone();
        self
    }

    /// Skips the temporal blocks: for weights that were trained on images only.
    pub fn without_temporal_attention(mut self) -> Self {
        self.0.inner.temporal = false;
        self
    }
}

impl Denoiser for T2vDenoiser<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        self.0.predict(x, timesteps)
    }
}

impl Bound<'_> {
    fn run(&self, x: &Tensor, timesteps: &[f64], text: &TextContext) -> Result<Tensor> {
        let tape = Tape::inference()
            .with_precision(self.precision)
            .with_packed_weight_cache(&self.packed_weights)
            .with_cancel(&self.cancel);
        let input = T2vInput { x, timesteps, text, temporal: self.temporal };
        host::beside(&self.model.forward(&tape, self.parameters, &input)?.to_host()?, x)
    }
}

impl ConditionalDenoiser for Bound<'_> {
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        self.run(x, timesteps, self.alone.as_ref().unwrap_or(&self.context))
    }

    /// The negative prompts come first in the batch, as in diffusers.
    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> Result<(Tensor, Tensor)> {
        let (x, timesteps) = doubled(x, timesteps)?;
        let (negative, positive) = halves(&self.run(&x, &timesteps, &self.context)?)?;
        Ok((positive, negative))
    }
}
