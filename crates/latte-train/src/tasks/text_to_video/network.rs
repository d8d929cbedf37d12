//! The text-to-video network in training: clips with their texts, and single images with texts of their own.

use std::ops::Range;

use candle_core::Tensor;
use latte_model::model::t2v::{LatteT2v, T2vInput, text_bias};
use latte_ops::{Parameters, Tape, Var, concat, narrow, reshape};

use crate::error::Result;
use crate::tasks::denoising::step::{Condition, Network, Noisy};

/// Encoded texts of the clips of a pass, and of their single images.
#[derive(Debug, Clone)]
pub struct Texts {
    /// `[b, 1 + images, l, d]`: the text of each clip, followed by those of its images.
    pub tokens: Tensor,
    /// `[b, 1 + images, l]`: 1 for tokens, 0 for padding.
    pub mask: Tensor,
}

impl Condition for Texts {
    fn of_clips(&self, clips: Range<usize>, _num_images: usize) -> Result<Self> {
        let part = |x: &Tensor| x.narrow(0, clips.start, clips.len())?.contiguous();
        Ok(Self { tokens: part(&self.tokens)?, mask: part(&self.mask)? })
    }
}

/// The network, with the part of its prediction that the loss uses.
#[derive(Debug)]
pub struct TextToVideoNetwork {
    /// The network.
    pub model: LatteT2v,
    /// Whether the loss has a variational part. Without it the channels of the variance are dropped.
    pub variational: bool,
}

impl Network for TextToVideoNetwork {
    type Condition = Texts;

    fn predict<'a>(
        &'a self,
        tape: &Tape<'a>,
        weights: &'a Parameters,
        noisy: Noisy<'_>,
        condition: &Texts,
    ) -> latte_model::Result<Var> {
        let Noisy { x, timesteps, num_images } = noisy;
        let (b, all, c, h, w) = x.dims5()?;
        let frames = all - num_images;
        let of_clips = self.run(tape, weights, &x.narrow(1, 0, frames)?, timesteps, condition, [0, 1])?; // [b, f, out, h, w]
        let prediction = if num_images == 0 {
            of_clips
        } else {
            // An image is a clip of one frame, without temporal blocks; it has the clip's time.
            let images = x.narrow(1, frames, num_images)?.contiguous()?.reshape((b * num_images, 1, c, h, w))?;
            let times: Vec<f64> = timesteps.iter().flat_map(|&t| std::iter::repeat_n(t, num_images)).collect();
            let of_images = self.run(tape, weights, &images, &times, condition, [1, num_images])?; // [b · images, 1, out, h, w]
            let out = of_images.dims()[2];
            let of_images = reshape(tape, &of_images, &[b, num_images, out, h, w])?;
            concat(tape, &[&of_clips, &of_images], 1)?
        };
        if self.variational || prediction.dims()[2] == c {
            return Ok(prediction);
        }
        Ok(narrow(tape, &prediction, 2, 0, c)?)
    }
}

impl TextToVideoNetwork {
    /// The prediction for `x` with `count` texts of each clip, beginning at text `first`: those of clips, or those of images.
    fn run<'a>(
        &'a self,
        tape: &Tape<'a>,
        weights: &'a Parameters,
        x: &Tensor,
        timesteps: &[f64],
        texts: &Texts,
        [first, count]: [usize; 2],
    ) -> latte_model::Result<Var> {
        let (b, _, l, d) = texts.tokens.dims4()?;
        let tokens = texts.tokens.narrow(1, first, count)?.contiguous()?.reshape((b * count, l, d))?;
        let mask = texts.mask.narrow(1, first, count)?.contiguous()?.reshape((b * count, l))?;
        let text = self.model.context(tape, weights, &tokens, Some(&text_bias(&mask)?))?;
        let temporal = first == 0;
        self.model.forward(tape, weights, &T2vInput { x: &x.contiguous()?, timesteps, text: &text, temporal })
    }
}
