//! The Latte network: latents with noise in, predicted noise (and variance) out.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use latte_model::model::{Input, Latte, LatteConfig};
//! use latte_model::noise::TorchRng;
//! use latte_ops::Tape;
//!
//! # fn main() -> latte_model::Result<()> {
//! let config = LatteConfig { input_size: [8, 12], num_frames: 4, hidden_size: 32, depth: 2, num_heads: 2, ..LatteConfig::preset("Latte-S/2")? };
//! let model = Latte::new(config)?;
//! let parameters = model.init(&mut TorchRng::new(0))?;
//! let x = Tensor::zeros((1, 4, 4, 8, 12), DType::F32, &Device::Cpu)?; // [b, f, c, h, w]
//! let y = model.forward(&Tape::inference(), &parameters, &Input::new(&x, &[500.0]))?;
//! assert_eq!(y.dims(), [1, 4, 8, 8, 12]);
//! # Ok(())
//! # }
//! ```

mod block;
mod condition;
mod config;
mod denoiser;
mod embed;
mod final_layer;
mod infer_config;
pub mod position;
mod pretrained;
pub mod t2v;
mod work;

use candle_core::Tensor;
use latte_ops::{Parameters, Rope, Tape, Var};

pub use config::{BlockLayout, Condition, Injection, LatteConfig, PatchEmbedding, TemporalPosition};
pub use denoiser::LatteDenoiser;
pub use infer_config::ConfigHints;
pub use pretrained::{Ancestor, LoadReport};

pub use crate::layers::ParameterSpec;

use crate::layers::{Adaptation, ParamScope, ParameterTable};
use crate::noise::TorchRng;
use crate::weights::{TensorSource, all_fit};
use crate::{Error, Result};
use block::{Block, BlockKind, Run};
use condition::ConditionEmbedder;
use embed::Embedding;
use final_layer::FinalLayer;

/// The network: its configuration and its layers. Its weights are a [`Parameters`] that every call gets, so that weights and their moving average
/// serve the same network.
#[derive(Debug, Clone)]
pub struct Latte {
    config: LatteConfig,
    embedding: Embedding,
    condition: ConditionEmbedder,
    blocks: Vec<Block>,
    last: FinalLayer,
    table: ParameterTable,
}

/// What the network reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'t> {
    /// Noisy latents `[b, f + num_images, c, h, w]`, wherever they are: the clip, and behind it any number of single images (joint training,
    /// §3.4 of the paper), which pass through spatial attention only.
    pub x: &'t Tensor,
    /// The diffusion time of each clip on the original scale, `[b]`; its images share it.
    pub timesteps: &'t [f64],
    /// The class of each clip, `[b]`; needed if and only if the model is conditioned on classes.
    pub labels: Option<&'t [u32]>,
    /// The class of each image, `[b · num_images]`; needed if and only if there are images and classes.
    pub image_labels: Option<&'t [u32]>,
    /// Text embeddings `[b, length, width]`; needed if and only if the model is conditioned on text.
    pub text: Option<&'t Tensor>,
    /// How many of the frames of `x`, at the end, are single images.
    pub num_images: usize,
}

impl<'t> Input<'t> {
    /// A clip without condition or images.
    pub fn new(x: &'t Tensor, timesteps: &'t [f64]) -> Self {
        Self { x, timesteps, labels: None, image_labels: None, text: None, num_images: 0 }
    }
}

/// The sizes of one forward pass, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Batch.
    b: usize,
    /// Token frames of the clip (after tubelets).
    f: usize,
    /// Single images.
    images: usize,
    /// Rows and columns of the token grid.
    grid: [usize; 2],
}

impl Latte {
    /// The network of `config`.
    ///
    /// # Errors
    ///
    /// If `config` describes none.
    pub fn new(config: LatteConfig) -> Result<Self> {
        Self::build(config, &Adaptation::default())
    }

    /// The same network with parameters frozen or layers adapted as `adaptation` says, and not otherwise.
    ///
    /// # Errors
    ///
    /// If `adaptation` names what the network does not have.
    pub fn adapted(&self, adaptation: &Adaptation) -> Result<Self> {
        Self::build(self.config.clone(), adaptation)
    }

    fn build(config: LatteConfig, adaptation: &Adaptation) -> Result<Self> {
        config.validate()?;
        let ((embedding, condition, blocks, last), table) = ParamScope::build(adaptation, |scope| {
            let embedding = Embedding::new(scope, &config);
            let condition = ConditionEmbedder::new(scope, &config);
            let scope_of_blocks = scope.within("blocks");
            let blocks = (0..config.depth).map(|index| Block::new(&scope_of_blocks, &config, index)).collect();
            Ok((embedding, condition, blocks, FinalLayer::new(scope, &config)))
        })?;
        Ok(Self { config, embedding, condition, blocks, last, table })
    }

    /// What the network is.
    pub fn config(&self) -> &LatteConfig {
        &self.config
    }

    /// All parameters, fixed positions included.
    pub fn parameters(&self) -> &[ParameterSpec] {
        self.table.specs()
    }

    /// The names in memory of the parameters that training changes: neither positions nor what is frozen.
    pub fn trainable(&self) -> Vec<String> {
        self.table.trainable().map(ToString::to_string).collect()
    }

    /// How many values training changes.
    pub fn num_trainable(&self) -> usize {
        self.parameters().iter().filter(|s| s.is_trainable()).map(ParameterSpec::num_values).sum()
    }

    /// Fresh weights by the official rules; with them the output is exactly 0.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        self.table.draw(rng)
    }

    /// Whether the tensors of `source` are this network's: all there, none besides, each of its shape. Fixed positions may be
    /// missing or of another shape, since they are computed where they do not fit. No tensor is read.
    ///
    /// # Errors
    ///
    /// One that lists what is missing, unknown or of a wrong shape.
    pub fn check(&self, source: &dyn TensorSource) -> std::result::Result<(), String> {
        let wrong = self.table.misfits(source, |name| name == "temp_embed");
        all_fit("the model", &wrong)
    }

    /// Predicts.
    ///
    /// # Shapes
    ///
    /// See [`Input`]; gives `[b, f + num_images, out, h, w]` with `out` of [`LatteConfig::out_channels`].
    ///
    /// # Errors
    ///
    /// If the input does not fit the network, or `parameters` are not its own.
    pub fn forward<'a>(&'a self, tape: &Tape<'a>, parameters: &'a Parameters, input: &Input<'_>) -> Result<Var> {
        let (config, sizes, weights) = (&self.config, self.sizes(input)?, parameters);
        let conditions = self.condition.forward(config, tape, weights, input, &sizes)?;
        let mut x = self.embedding.tokens(config, tape, weights, input, &sizes)?; // [b, f + images, n, d]
        if let Some(tokens) = &conditions.tokens {
            x = latte_ops::concat(tape, &[&x, tokens], 2)?; // [b, f + images, n + extra, d]
        }
        let positions = self.embedding.temporal_positions(config, tape, weights, &sizes)?;
        let rope = match config.temporal_position {
            TemporalPosition::Absolute => None,
            TemporalPosition::Rope => Some(Rope::new(sizes.f, config.head_size(), x.value())?),
        };
        for (index, block) in self.blocks.iter().enumerate() {
            // Positions are added once, just before tokens first meet temporal attention.
            let positions = if index == BlockKind::first_temporal(config) { positions.clone() } else { None };
            let run = Run { weights, sizes, positions, rope: rope.clone() };
            x = match (&conditions.clips, &conditions.frames) {
                (Some(clips), Some(frames)) => {
                    tape.segment(&[&x, clips, frames], move |tape, v| block.run(tape, &run, &v[0], Some(&v[1]), Some(&v[2])))?
                }
                (Some(clips), None) => {
                    tape.segment(&[&x, clips], move |tape, v| block.run(tape, &run, &v[0], Some(&v[1]), None))?
                }
                (None, _) => tape.segment(&[&x], move |tape, v| block.run(tape, &run, &v[0], None, None))?,
            };
        }
        self.last.forward(config, tape, weights, &x, &conditions, &sizes)
    }

    /// Checks the input and works out the sizes.
    fn sizes(&self, input: &Input<'_>) -> Result<Sizes> {
        let config = &self.config;
        let (p, s) = (config.patch_size, config.frames_per_token());
        let shape = |expected: String| Error::Shape { name: "x".into(), expected, got: input.x.dims().to_vec() };
        let Ok((b, frames, c, h, w)) = input.x.dims5() else { return Err(shape("[b, f, c, h, w]".into())) };
        if c != config.in_channels || h == 0 || w == 0 || !h.is_multiple_of(p) || !w.is_multiple_of(p) {
            return Err(shape(format!("[b, f, {}, h, w] with h and w multiples of {p}", config.in_channels)));
        }
        if frames <= input.num_images || !(frames - input.num_images).is_multiple_of(s) {
            return Err(shape(format!("a multiple of {s} frames before the {} images", input.num_images)));
        }
        if input.timesteps.len() != b {
            return Err(Error::config("timesteps", format!("expected one for each of {b} clips, got {}", input.timesteps.len())));
        }
        Ok(Sizes { b, f: (frames - input.num_images) / s, images: input.num_images, grid: [h / p, w / p] })
    }
}

impl Sizes {
    /// Token frames of clip and images.
    fn frames(&self) -> usize {
        self.f + self.images
    }

    /// Tokens of a frame, without those of the condition.
    fn n(&self) -> usize {
        self.grid[0] * self.grid[1]
    }
}
