//! The text-to-video transformer as diffusion sees it, with its texts and its guidance.

use candle_core::{DType, Tensor};
use latte_ops::{PackedWeightCache, Parameters, Precision, Tape};

use super::{LatteT2v, T2vInput, TextContext, text_bias};
use crate::guidance::guide_text;
use crate::{Denoiser, Result};

/// A network with weights, bound to the prompts of its clips and, under guidance, to the texts to stay away from.
#[derive(Debug)]
pub struct T2vDenoiser<'m> {
    model: &'m LatteT2v,
    parameters: &'m Parameters,
    context: TextContext,
    /// The guidance scale; 1 is off, and then there are no negative texts.
    scale: f64,
    temporal: bool,
    precision: Precision,
    packed_weights: PackedWeightCache,
}

/// The texts that clips are to follow, `[b, l, caption_channels]`, and whose tokens count, `[b, l]`.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'t> {
    /// Embeddings.
    pub text: &'t Tensor,
    /// 1 for tokens that count, 0 for others; without it all count.
    pub mask: Option<&'t Tensor>,
}

impl Texts<'_> {
    fn mask_or_ones(&self) -> Result<Tensor> {
        Ok(match self.mask {
            Some(mask) => mask.to_dtype(DType::F32)?,
            None => Tensor::ones(&self.text.dims()[..2], DType::F32, self.text.device())?,
        })
    }
}

impl<'m> T2vDenoiser<'m> {
    /// Binds the network to the prompts `texts`. With `guidance` = (negative texts of the same shape, scale), predictions are
    /// pushed away from the negative texts.
    ///
    /// # Errors
    ///
    /// If shapes do not fit.
    pub fn new(
        model: &'m LatteT2v,
        parameters: &'m Parameters,
        texts: Texts<'_>,
        guidance: Option<(Texts<'_>, f64)>,
        precision: Precision,
    ) -> Result<Self> {
        let packed_weights = PackedWeightCache::new();
        let tape = Tape::inference().with_precision(precision).with_packed_weight_cache(&packed_weights);
        let (text, mask, scale) = match guidance {
            None => (texts.text.clone(), texts.mask.cloned(), 1.0),
            Some((negative, scale)) => {
                let mask = match (negative.mask, texts.mask) {
                    (None, None) => None,
                    _ => Some(Tensor::cat(&[negative.mask_or_ones()?, texts.mask_or_ones()?], 0)?), // [2b, l]
                };
                (Tensor::cat(&[negative.text, texts.text], 0)?, mask, scale) // [2b, l, caption_channels]
            }
        };
        let bias = mask.as_ref().map(text_bias).transpose()?;
        let context = model.context(&tape, parameters, &text, bias.as_ref())?;
        Ok(Self { model, parameters, context, scale, temporal: true, precision, packed_weights })
    }

    /// Leaves the temporal blocks out: for weights that know images only.
    pub fn without_temporal_attention(mut self) -> Self {
        self.temporal = false;
        self
    }

    fn run(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        let tape = Tape::inference().with_precision(self.precision).with_packed_weight_cache(&self.packed_weights);
        let input = T2vInput { x, timesteps, text: &self.context, temporal: self.temporal };
        Ok(self.model.forward(&tape, self.parameters, &input)?.to_host()?.to_device(x.device())?)
    }
}

impl Denoiser for T2vDenoiser<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        if self.context.batch() == x.dims()[0] {
            return self.run(x, timesteps);
        }
        let doubled = Tensor::cat(&[x, x], 0)?; // [2b, f, c, h, w]
        let prediction = self.run(&doubled, &[timesteps, timesteps].concat())?;
        guide_text(&prediction, self.scale)
    }
}
