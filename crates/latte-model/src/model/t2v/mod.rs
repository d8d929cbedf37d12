//! The text-to-video transformer, LatteT2V (released as Latte-1; `LatteTransformer3DModel` in diffusers).
//!
//! Pairs of a spatial block, whose tokens also attend to the text, and a temporal block. One modulation for all blocks comes
//! from the timestep; each block adds a table of its own to it.
//!
//! Inputs and outputs are `[b, f, c, h, w]`, as everywhere in this crate; diffusers has `[b, c, f, h, w]`.

mod block;
mod config;
mod denoiser;
mod recognise;
mod weights;

use candle_core::{DType, Device, Tensor};
use latte_ops::{AttentionAxis, Parameters, Tape, Var, add, linear_gelu, modulated_layer_norm, narrow, permute, reshape, silu};

pub use config::T2vConfig;
pub use denoiser::{PromptEmbeddings, T2vDenoiser};
pub use weights::T2vParameter;

use super::{Weights, position};
use crate::noise::TorchRng;
use crate::weights::TensorSource;
use crate::{Error, Result};
use block::Block;
use weights::{SPATIAL, TEMPORAL};

/// What is added to the score of a text token that is not to be attended to.
const IGNORED: f64 = -10000.0;

/// The bias for [`LatteT2v::context`] that makes texts' padding vanish: 0 where `mask` `[b, l]` is 1, and −10000 where it is 0.
///
/// # Errors
///
/// If the device fails.
pub fn text_bias(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.to_dtype(DType::F32)?.affine(-IGNORED, IGNORED)?)
}

/// The network's shape. Its weights are a [`Parameters`] that every call gets.
#[derive(Debug, Clone)]
pub struct LatteT2v {
    config: T2vConfig,
    specs: Vec<T2vParameter>,
}

/// What the network reads.
#[derive(Debug, Clone, Copy)]
pub struct T2vInput<'t> {
    /// Noisy latents `[b, f, c, h, w]`: any number of frames, any height and width that are multiples of the patch size. One
    /// frame is an image, which gets no temporal positions.
    pub x: &'t Tensor,
    /// The diffusion time of each clip on the original scale, `[b]`.
    pub timesteps: &'t [f64],
    /// The texts of the clips.
    pub text: &'t TextContext,
    /// Whether temporal blocks run (`enable_temporal_attentions`): off for weights that know images only (Latte-0).
    pub temporal: bool,
}

/// Texts as the blocks read them: worked out once, the same for every step of sampling.
#[derive(Debug, Clone)]
pub struct TextContext {
    /// Keys and values of each spatial block, `[b, l, 2·d]`.
    keys_and_values: Vec<Var>,
    /// What is added to the scores of each text token, `[b, l]`.
    bias: Option<Var>,
}

impl TextContext {
    /// How many clips these are the texts of.
    pub fn batch(&self) -> usize {
        self.keys_and_values.first().map_or(0, |kv| kv.dims()[0])
    }

    /// The texts of the second half of the clips alone.
    fn second_half(&self, tape: &Tape<'_>) -> Result<Self> {
        let half = |x: &Var| narrow(tape, x, 0, x.dims()[0] / 2, x.dims()[0] / 2);
        let keys_and_values = self.keys_and_values.iter().map(|kv| Ok(half(kv)?)).collect::<Result<_>>()?;
        Ok(Self { keys_and_values, bias: self.bias.as_ref().map(half).transpose()? })
    }
}

impl LatteT2v {
    /// The network of `config`.
    ///
    /// # Errors
    ///
    /// If `config` describes none.
    pub fn new(config: T2vConfig) -> Result<Self> {
        config.validate()?;
        let specs = weights::specification(&config);
        Ok(Self { config, specs })
    }

    /// What the network is.
    pub fn config(&self) -> &T2vConfig {
        &self.config
    }

    /// All parameters as files have them, under diffusers' names.
    pub fn parameters(&self) -> &[T2vParameter] {
        &self.specs
    }

    /// Whether `source` holds this network's parameters: all there, none besides, each of its shape.
    ///
    /// # Errors
    ///
    /// One that lists what is missing, unknown or of a wrong shape.
    pub fn check(&self, source: &dyn TensorSource) -> std::result::Result<(), String> {
        weights::check(&self.specs, source)
    }

    /// Reads the parameters, and joins queries, keys and values, which files hold one by one.
    ///
    /// # Errors
    ///
    /// If they are not this network's, or cannot be read.
    pub fn load(&self, source: &dyn TensorSource) -> Result<Parameters> {
        weights::load(&self.config, &self.specs, source)
    }

    /// Fresh parameters, joined as [`load`](Self::load) has them.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        weights::initialise(&self.config, &self.specs, rng)
    }

    /// Texts as the blocks read them. `bias` is added to the scores of a text token in every cross-attention, for example
    /// [`text_bias`] of a mask; without it all tokens count the same.
    ///
    /// # Shapes
    ///
    /// `text` `[b, l, caption_channels]`, `bias` `[b, l]`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit.
    pub fn context(&self, tape: &Tape<'_>, parameters: &Parameters, text: &Tensor, bias: Option<&Tensor>) -> Result<TextContext> {
        let channels = self.config.caption_channels;
        match *text.dims() {
            [b, l, c] if b > 0 && l > 0 && c == channels => {}
            ref got => {
                let expected = format!("[b, l, {channels}]");
                return Err(Error::Shape { name: "text".into(), expected, got: got.to_vec() });
            }
        }
        if let Some(bias) = bias.filter(|bias| bias.dims() != &text.dims()[..2]) {
            let expected = format!("{:?}, one value for each token of the text", &text.dims()[..2]);
            return Err(Error::Shape { name: "bias of the text".into(), expected, got: bias.dims().to_vec() });
        }
        let weights = Weights(parameters);
        let weight = weights.get(tape, "caption_projection.linear_1.weight")?;
        let first_bias = weights.get(tape, "caption_projection.linear_1.bias")?;
        let hidden = linear_gelu(tape, &weights.constant(tape, text)?, &weight, Some(&first_bias))?;
        let text = weights.linear(tape, "caption_projection.linear_2", &hidden)?; // [b, l, d]
        let keys_and_values = (0..self.config.num_layers)
            .map(|index| self.block(weights, SPATIAL, index, None).keys_and_values(tape, &text))
            .collect::<Result<_>>()?;
        let bias = bias.map(|bias| weights.constant(tape, bias)).transpose()?;
        Ok(TextContext { keys_and_values, bias })
    }

    /// Predicts.
    ///
    /// # Shapes
    ///
    /// See [`T2vInput`]; gives `[b, f, out_channels, h, w]`.
    ///
    /// # Errors
    ///
    /// If the input does not fit the network, or `parameters` are not its own.
    pub fn forward<'a>(&'a self, tape: &Tape<'a>, parameters: &'a Parameters, input: &T2vInput<'_>) -> Result<Var> {
        let [b, f, rows, columns] = self.sizes(input)?;
        let weights = Weights(parameters);
        let sinusoid = weights.constant(tape, &position::timestep_sinusoid(input.timesteps, &Device::Cpu)?)?; // [b, 256]
        let hidden = silu(tape, &weights.linear(tape, "adaln_single.emb.timestep_embedder.linear_1", &sinusoid)?)?;
        let time = weights.linear(tape, "adaln_single.emb.timestep_embedder.linear_2", &hidden)?; // [b, d]
        let modulation = weights.linear(tape, "adaln_single.linear", &silu(tape, &time)?)?; // [b, 6·d]
        let mut x = self.tokens(tape, weights, input, [b, f, rows, columns])?; // [b, f, n, d]
        let context = input.text;
        for (index, text) in context.keys_and_values.iter().enumerate() {
            let block = self.block(weights, SPATIAL, index, context.bias.clone());
            x = tape.segment(&[&x, &modulation, text], move |tape, v| block.run(tape, &v[0], &v[1], Some(&v[2])))?;
            if !input.temporal {
                continue;
            }
            if index == 0 && f > 1 {
                let positions = position::temporal(f, self.config.hidden_size(), &Device::Cpu)?.unsqueeze(1)?; // [f, 1, d]
                x = add(tape, &x, &weights.constant(tape, &positions)?)?;
            }
            let block = self.block(weights, TEMPORAL, index, None);
            x = tape.segment(&[&x, &modulation], move |tape, v| block.run(tape, &v[0], &v[1], None))?;
        }
        self.output(tape, weights, &x, &time, [b, f, rows, columns])
    }

    fn block<'p>(&'p self, weights: Weights<'p>, list: &str, index: usize, text_bias: Option<Var>) -> Block<'p> {
        let axis = if list == SPATIAL { AttentionAxis::Spatial } else { AttentionAxis::Temporal };
        Block { config: &self.config, weights, name: format!("{list}.{index}"), axis, text_bias }
    }

    /// Checks the input; gives batch, frames, and rows and columns of tokens.
    fn sizes(&self, input: &T2vInput<'_>) -> Result<[usize; 4]> {
        let (p, c) = (self.config.patch_size, self.config.in_channels);
        let b = match *input.x.dims() {
            [b, f, channels, h, w] if channels == c && b * f * h * w > 0 && h.is_multiple_of(p) && w.is_multiple_of(p) => b,
            ref got => {
                let expected = format!("[b, f, {c}, h, w] with h and w multiples of {p}");
                return Err(Error::Shape { name: "x".into(), expected, got: got.to_vec() });
            }
        };
        if input.timesteps.len() != b {
            return Err(Error::config("timesteps", format!("expected one for each of {b} clips, got {}", input.timesteps.len())));
        }
        if input.text.batch() != b {
            return Err(Error::config("text", format!("expected one for each of {b} clips, got {}", input.text.batch())));
        }
        Ok([b, input.x.dims()[1], input.x.dims()[3] / p, input.x.dims()[4] / p])
    }

    /// Patches, embedded, with their positions: `[b, f, n, d]`.
    fn tokens(&self, tape: &Tape<'_>, weights: Weights<'_>, input: &T2vInput<'_>, sizes: [usize; 4]) -> Result<Var> {
        let ([b, f, rows, columns], p, c) = (sizes, self.config.patch_size, self.config.in_channels);
        let patches = input
            .x
            .reshape(vec![b * f, c, rows, p, columns, p])?
            .permute(vec![0, 2, 4, 1, 3, 5])? // [b·f, rows, columns, c, p, p]
            .contiguous()?
            .reshape((b, f, rows * columns, c * p * p))?;
        let tokens = weights.linear(tape, "pos_embed.proj", &weights.constant(tape, &patches)?)?;
        Ok(add(tape, &tokens, &weights.constant(tape, &self.positions(rows, columns)?)?)?)
    }

    /// Positions of a grid of any size, stretched over that of `sample_size`: `[n, d]`.
    fn positions(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let base = self.config.sample_size / self.config.patch_size;
        // Latents of 64 × 64 have the positions' own scale; larger samples are squeezed into it.
        let interpolation = (self.config.sample_size / 64).max(1);
        position::stretched(rows, columns, self.config.hidden_size(), base, interpolation, &Device::Cpu)
    }

    /// Norm, projection and patches back to their places: `[b, f, n, d]` to `[b, f, out, h, w]`.
    fn output(&self, tape: &Tape<'_>, weights: Weights<'_>, x: &Var, time: &Var, sizes: [usize; 4]) -> Result<Var> {
        let ([b, f, rows, columns], p) = (sizes, self.config.patch_size);
        let table = weights.get(tape, "scale_shift_table")?; // [2, d]
        let row = |i: usize| -> Result<Var> { Ok(add(tape, time, &narrow(tape, &table, 0, i, 1)?)?) };
        let y = modulated_layer_norm(tape, x, &row(0)?, &row(1)?, self.config.norm_eps)?;
        let y = weights.linear(tape, "proj_out", &y)?; // [b, f, n, p·p·out]
        let out = self.config.out_channels;
        let y = reshape(tape, &y, &[b * f, rows, columns, p, p, out])?;
        let y = permute(tape, &y, &[0, 5, 1, 3, 2, 4])?; // [b·f, out, rows, p, columns, p]
        Ok(reshape(tape, &y, &[b, f, out, rows * p, columns * p])?)
    }
}
