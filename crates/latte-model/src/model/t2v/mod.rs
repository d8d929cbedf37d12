//! The text-to-video transformer, LatteT2V (released as Latte-1; `LatteTransformer3DModel` in diffusers).
//!
//! Pairs of a spatial block, whose tokens also attend to the text, and a temporal block. One modulation for all blocks is computed
//! from the timestep; each block adds its own table to it.
//!
//! Inputs and outputs are `[b, f, c, h, w]`, as everywhere in this crate; diffusers uses `[b, c, f, h, w]`.

mod block;
mod config;
mod denoiser;
mod infer_config;

use candle_core::{DType, Tensor};
use latte_ops::{AttentionAxis, Parameters, Tape, Var, add, narrow, silu};

pub use config::T2vConfig;
pub use denoiser::{PromptEmbeddings, T2vDenoiser};

use super::position::{self, Frequencies};
use crate::layers::{
    Adaptation, Init, Linear, Mlp, Modulation, Norm, ParamScope, ParameterSpec, ParameterTable, Patches, TimestepEmbedder,
    constant, unpatchify,
};
use crate::noise::TorchRng;
use crate::weights::{TensorSource, all_fit};
use crate::{Error, Result};
use block::Block;

/// The initialisation of all weights.
const INIT: Init = Init::RoundedXavier;

/// The bias of the score of a masked text token.
const IGNORED: f64 = -10000.0;

/// The bias for [`LatteT2v::context`] that masks the padding of texts: 0 where `mask` `[b, l]` is 1, and −10000 where it is 0.
///
/// # Errors
///
/// If the device fails.
pub fn text_bias(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.to_dtype(DType::F32)?.affine(-IGNORED, IGNORED)?)
}

/// The network: its configuration and its layers. Every call gets the weights as [`Parameters`].
///
/// Files hold queries, keys and values as separate layers. In memory they are one layer (`to_qkv`, and `to_kv` in cross-attention,
/// whose queries have another input), so that one matmul replaces three and attention reads its result in place.
#[derive(Debug, Clone)]
pub struct LatteT2v {
    config: T2vConfig,
    patches: Patches,
    timestep: TimestepEmbedder,
    /// Computes the modulation of all blocks from the timestep's embedding, `[b, 6·d]`.
    modulation: Linear,
    captions: Mlp,
    spatial: Vec<Block>,
    temporal: Vec<Block>,
    last_norm: Norm,
    last_modulation: Modulation,
    projection: Linear,
    table: ParameterTable,
}

/// The input of the network.
#[derive(Debug, Clone, Copy)]
pub struct T2vInput<'t> {
    /// Noisy latents `[b, f, c, h, w]`: any number of frames, and any height and width that are multiples of the patch size. A
    /// single frame is an image, which gets no temporal positions.
    pub x: &'t Tensor,
    /// The diffusion time of each clip on the original scale, `[b]`.
    pub timesteps: &'t [f64],
    /// The texts of the clips.
    pub text: &'t TextContext,
    /// Whether temporal blocks run (`enable_temporal_attentions`): off for weights that were trained on images only (Latte-0).
    pub temporal: bool,
}

/// Texts in the form that the blocks read: computed once for all sampling steps.
#[derive(Debug, Clone)]
pub struct TextContext {
    /// Keys and values of each spatial block, `[b, l, 2·d]`.
    keys_and_values: Vec<Var>,
    /// The bias of the scores of each text token, `[b, l]`.
    bias: Option<Var>,
}

impl TextContext {
    /// The number of clips.
    pub fn batch(&self) -> usize {
        self.keys_and_values.first().map_or(0, |kv| kv.dims()[0])
    }

    /// The texts of the second half of the clips.
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
    /// If `config` describes no valid network.
    pub fn new(config: T2vConfig) -> Result<Self> {
        Self::build(config, &Adaptation::default())
    }

    /// The same network with the frozen parameters and the adapters of `adaptation`; those of an earlier adaptation are dropped.
    ///
    /// # Errors
    ///
    /// If `adaptation` names a parameter or layer that the network does not have.
    pub fn adapted(&self, adaptation: &Adaptation) -> Result<Self> {
        Self::build(self.config.clone(), adaptation)
    }

    fn build(config: T2vConfig, adaptation: &Adaptation) -> Result<Self> {
        config.validate()?;
        let (d, c, p) = (config.hidden_size(), config.in_channels, config.patch_size);
        let (network, table) = ParamScope::build(adaptation, |scope| {
            let patches = Patches::flat(scope, "pos_embed.proj", [d, c, p], INIT);
            let lists = [(SPATIAL, true), (TEMPORAL, false)];
            let [spatial, temporal] = lists.map(|(list, reads_text)| {
                let scope = scope.within(list);
                (0..config.num_layers)
                    .map(|index| block::Layers::new(&scope.within(index), &config, reads_text))
                    .collect::<Vec<_>>()
            });
            let time = scope.within("adaln_single");
            let names = ["linear_1", "linear_2"];
            let timestep = TimestepEmbedder::new(&time.within("emb.timestep_embedder"), names, d, INIT, Frequencies::Reference);
            let modulation = Linear::new(&time, "linear", [6 * d, d], INIT);
            let captions = Mlp::new(&scope.within("caption_projection"), names, [config.caption_channels, d, d], INIT);
            let projection = Linear::new(scope, "proj_out", [p * p * config.out_channels, d], INIT);
            // Initial values are drawn in this order: all tables after all layers.
            let with_tables = |list: &str, blocks: Vec<block::Layers>| -> Vec<Block> {
                let scope = scope.within(list);
                blocks.into_iter().enumerate().map(|(index, block)| block.with_table(&scope.within(index), d)).collect()
            };
            let (spatial, temporal) = (with_tables(SPATIAL, spatial), with_tables(TEMPORAL, temporal));
            Ok(Self {
                patches,
                timestep,
                modulation,
                captions,
                spatial,
                temporal,
                last_norm: Norm::modulated(config.norm_eps),
                last_modulation: Modulation::table_of_one(scope, TABLE, [2, d]),
                projection,
                table: ParameterTable::default(),
                config,
            })
        })?;
        Ok(Self { table, ..network })
    }

    /// The configuration of the network.
    pub fn config(&self) -> &T2vConfig {
        &self.config
    }

    /// All parameters as files have them, under diffusers' names.
    pub fn parameters(&self) -> &[ParameterSpec] {
        self.table.specs()
    }

    /// The names in memory of the parameters that training updates: neither positions nor frozen parameters.
    pub fn trainable(&self) -> Vec<String> {
        self.table.trainable().map(ToString::to_string).collect()
    }

    /// Checks that `source` holds exactly this network's parameters, with their shapes.
    ///
    /// # Errors
    ///
    /// A message that lists the missing, unknown or wrongly shaped tensors.
    pub fn check(&self, source: &dyn TensorSource) -> std::result::Result<(), String> {
        all_fit("the text-to-video transformer", &self.table.misfits(source, is_computed))
    }

    /// Reads the parameters, and joins queries, keys and values, which are separate in files.
    ///
    /// # Errors
    ///
    /// If they are not this network's, or cannot be read.
    pub fn load(&self, source: &dyn TensorSource) -> Result<Parameters> {
        self.check(source).map_err(|what| Error::config("the transformer's weights", what))?;
        self.table.read(source)
    }

    /// The parameters, or their gradients or moments, under the names of files: the inverse of [`load`](Self::load).
    ///
    /// # Errors
    ///
    /// If a tensor does not have the shape of its parameter.
    pub fn to_file(&self, parameters: &Parameters) -> Result<Parameters> {
        self.table.separate(parameters)
    }

    /// Initial parameters, joined as by [`load`](Self::load): weights Xavier-uniform, tables normal with variance 1/d, biases zero.
    /// For benchmarks and for training from scratch.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        self.table.draw(rng)
    }

    /// The texts in the form that the blocks read. `bias` is added to the scores of a text token in every cross-attention, for
    /// example [`text_bias`] of a mask; without it no token is masked.
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
        let text = self.captions.forward(tape, parameters, &constant(tape, parameters, text)?)?; // [b, l, d]
        let keys_and_values =
            self.spatial.iter().map(|block| block.keys_and_values(tape, parameters, &text)).collect::<Result<_>>()?;
        let bias = bias.map(|bias| constant(tape, parameters, bias)).transpose()?;
        Ok(TextContext { keys_and_values, bias })
    }

    /// Runs the forward pass: predicts noise, and variance values if the network has channels for them.
    ///
    /// # Shapes
    ///
    /// See [`T2vInput`]; gives `[b, f, out_channels, h, w]`.
    ///
    /// # Errors
    ///
    /// If the input does not fit the network, or `parameters` are not its own.
    pub fn forward<'a>(&'a self, tape: &Tape<'a>, parameters: &'a Parameters, input: &T2vInput<'_>) -> Result<Var> {
        let (grid, weights) = (self.check_input(input)?, parameters);
        let f = input.x.dims()[1];
        let time = self.timestep.forward(tape, weights, input.timesteps)?; // [b, d]
        let modulation = self.modulation.forward(tape, weights, &silu(tape, &time)?)?; // [b, 6·d]
        let tokens = self.patches.forward(tape, weights, input.x)?; // [b, f, n, d]
        let mut x = add(tape, &tokens, &constant(tape, weights, &self.positions(grid)?)?)?;
        let context = input.text;
        let blocks = self.spatial.iter().zip(&self.temporal).zip(&context.keys_and_values);
        for (index, ((spatial, temporal), text)) in blocks.enumerate() {
            let bias = context.bias.clone();
            x = tape.segment(&[&x, &modulation, text], move |tape, v| {
                spatial.run(tape, weights, &v[0], &v[1], AttentionAxis::Spatial, Some((&v[2], bias.as_ref())))
            })?;
            if !input.temporal {
                continue;
            }
            if index == 0 && f > 1 {
                let positions = position::temporal(f, self.config.hidden_size())?.unsqueeze(1)?; // [f, 1, d]
                x = add(tape, &x, &constant(tape, weights, &positions)?)?;
            }
            x = tape.segment(&[&x, &modulation], move |tape, v| {
                temporal.run(tape, weights, &v[0], &v[1], AttentionAxis::Temporal, None)
            })?;
        }
        let [shift, scale] = self.last_modulation.for_norm(tape, weights, &time)?;
        let y = self.last_norm.forward(tape, weights, &x, Some([&shift, &scale]))?;
        let y = self.projection.forward(tape, weights, &y)?; // [b, f, n, p·p·out]
        unpatchify(tape, &y, grid, [self.config.patch_size, self.config.out_channels])
    }

    /// Checks the input; returns the rows and columns of tokens.
    fn check_input(&self, input: &T2vInput<'_>) -> Result<[usize; 2]> {
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
        Ok([input.x.dims()[3] / p, input.x.dims()[4] / p])
    }

    /// The positions of a grid of any size, stretched to that of `sample_size`: `[n, d]`.
    fn positions(&self, [rows, columns]: [usize; 2]) -> Result<Tensor> {
        let base = self.config.sample_size / self.config.patch_size;
        // Latents of 64 × 64 have unscaled positions; larger `sample_size`s are compressed to that range.
        let interpolation = (self.config.sample_size / 64).max(1);
        position::stretched(rows, columns, self.config.hidden_size(), base, interpolation)
    }
}

/// The prefixes of the two kinds of blocks.
const SPATIAL: &str = "transformer_blocks";
const TEMPORAL: &str = "temporal_transformer_blocks";

/// The modulation tables of each block and of the final layer.
const TABLE: &str = "scale_shift_table";

/// Tensors in some files that this network computes, so that it ignores them.
fn is_computed(name: &str) -> bool {
    matches!(name, "pos_embed.pos_embed" | "temp_pos_embed" | "caption_projection.y_embedding")
}
