//! Tokenizer and T5 together, and the pairing of a prompt with a negative prompt of another length.

use std::path::Path;

use candle_core::{Device, Tensor};
use latte_ops::CancelToken;
use latte_progress::{OneOf, Progress};

use super::t5::{T5Config, T5Encoder, tokens_of};
use super::tokenizer::{Tokenizer, Tokens};
use crate::Result;
use crate::finite::expect_finite;
use crate::weights::{CONFIG, Pretrained, refuse};

/// The largest number of tokens of a prompt, including the end token; longer prompts are cut.
pub const MAX_LENGTH: usize = 120;

/// An encoded text.
#[derive(Debug, Clone)]
pub struct EncodedText {
    /// All [`MAX_LENGTH`] tokens, including padding, `[l, d]`.
    pub tokens: Tensor,
    /// The number of tokens without padding.
    pub length: usize,
}

/// A prompt and a negative prompt with the same length.
#[derive(Debug, Clone)]
pub struct PromptPair {
    /// The prompt, `[1, l, d]`.
    pub text: Tensor,
    /// The negative prompt, `[1, l, d]`.
    pub negative: Tensor,
    /// The masks of the prompt and of the negative prompt, `[1, l]` each, 1 for tokens and 0 for padding; `None` if nothing is
    /// masked.
    pub masks: Option<[Tensor; 2]>,
}

impl PromptPair {
    /// Brings a prompt and a negative prompt to the length of the longer one, with masks for the padding. The result does not
    /// depend on the other texts of the run.
    ///
    /// With `compat`, as in diffusers with a single prompt, both have the prompt's length and nothing is masked: a longer negative
    /// prompt is cut, and a shorter one is followed by the encoder's output for padding.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn new(prompt: &EncodedText, negative: &EncodedText, compat: bool) -> Result<Self> {
        let length = if compat { prompt.length } else { prompt.length.max(negative.length) };
        let cut = |text: &EncodedText| text.tokens.narrow(0, 0, length)?.unsqueeze(0)?.contiguous();
        let mask = |text: &EncodedText| -> Result<Tensor> {
            let counts: Vec<f32> = (0..length).map(|i| if i < text.length { 1.0 } else { 0.0 }).collect();
            Ok(Tensor::from_vec(counts, (1, length), &Device::Cpu)?)
        };
        let masks = if compat || prompt.length == negative.length { None } else { Some([mask(prompt)?, mask(negative)?]) };
        Ok(Self { text: cut(prompt)?, negative: cut(negative)?, masks })
    }
}

/// Encodes texts.
#[derive(Debug)]
pub struct TextEncoder<'s> {
    tokenizer: Tokenizer,
    encoder: T5Encoder<'s>,
}

/// The number of texts that are encoded together: each layer's weights are read once for all of them.
const TOGETHER: usize = 16;

impl<'s> TextEncoder<'s> {
    /// Opens the tokenizer in a folder, and uses the encoder's weights with the `config.json` beside them.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the weights do not fit.
    pub fn open(tokenizer: &Path, weights: &'s Pretrained) -> Result<Self> {
        Self::new(Tokenizer::open(tokenizer)?, weights)
    }

    /// Uses a tokenizer, and the encoder's weights with the `config.json` beside them.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the weights do not fit.
    pub fn new(tokenizer: Tokenizer, weights: &'s Pretrained) -> Result<Self> {
        let wrong = |what: String| refuse(weights.files().path(), what);
        let config = weights.files().config()?.ok_or_else(|| wrong(format!("has no {CONFIG} beside the weights")))?;
        let config = T5Config::from_json(&config).map_err(|e| wrong(format!("{CONFIG}: {e}")))?;
        Ok(Self { tokenizer, encoder: T5Encoder::new(config, weights)? })
    }

    /// The same encoder running on `device`; the output is on the CPU.
    pub fn on(self, device: &Device) -> Self {
        Self { encoder: self.encoder.on(device), ..self }
    }

    /// Stops between two layers once `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: &CancelToken) -> Self {
        Self { encoder: self.encoder.with_cancel(cancel), ..self }
    }

    /// Encodes texts; with `clean`, they are cleaned first ([`clean_caption`](super::clean_caption)).
    ///
    /// # Errors
    ///
    /// If weights cannot be read or memory runs out.
    pub fn encode(&self, texts: &[&str], clean: bool, progress: &mut dyn Progress) -> Result<Vec<EncodedText>> {
        let read = |text: &&str| Ok(self.tokenizer.read(text, clean)?.tokens);
        self.encode_tokens(&texts.iter().map(read).collect::<Result<Vec<_>>>()?, progress)
    }

    /// As [`encode`](Self::encode), for texts that are tokenised.
    ///
    /// # Errors
    ///
    /// Those of [`encode`](Self::encode).
    pub fn encode_tokens(&self, texts: &[Tokens], progress: &mut dyn Progress) -> Result<Vec<EncodedText>> {
        let pieces = texts.len().div_ceil(TOGETHER);
        let mut encoded = Vec::with_capacity(texts.len());
        for (index, tokens) in texts.chunks(TOGETHER).enumerate() {
            let ids: Vec<Vec<u32>> = tokens.iter().map(|t| t.ids.clone()).collect();
            let mask = |t: &Tokens| (0..t.ids.len()).map(|i| u32::from(i < t.length)).collect();
            let masks: Vec<Vec<u32>> = tokens.iter().map(mask).collect();
            let output = self.encoder.forward(&ids, &masks, &mut OneOf { index, pieces, all: progress })?; // [b, l, d]
            for (i, tokens) in tokens.iter().enumerate() {
                let text = EncodedText { tokens: tokens_of(&output, i, MAX_LENGTH)?, length: tokens.length };
                expect_finite(&text.tokens, || "what the text encoder gives".into())?;
                encoded.push(text);
            }
        }
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn text(length: usize, value: f64) -> Result<EncodedText> {
        Ok(EncodedText { tokens: (Tensor::ones((MAX_LENGTH, 2), DType::F32, &Device::Cpu)? * value)?, length })
    }

    #[test]
    fn pairs_have_one_length_and_say_what_counts() -> Result<()> {
        let (long, short) = (text(5, 1.0)?, text(3, 2.0)?);
        let pair = PromptPair::new(&short, &long, false)?;
        assert_eq!((pair.text.dims(), pair.negative.dims()), (&[1usize, 5, 2][..], &[1usize, 5, 2][..]));
        let masks = pair.masks.map(|masks| masks.map(|m| m.to_vec2::<f32>().unwrap_or_default()));
        assert_eq!(masks, Some([vec![vec![1., 1., 1., 0., 0.]], vec![vec![1.; 5]]]));
        let pair = PromptPair::new(&short, &long, true)?;
        assert_eq!((pair.text.dims(), pair.negative.dims()), (&[1usize, 3, 2][..], &[1usize, 3, 2][..]));
        assert!(pair.masks.is_none());
        assert!(PromptPair::new(&long, &long, false)?.masks.is_none());
        Ok(())
    }
}
