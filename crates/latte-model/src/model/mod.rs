//! The Latte network: predicts noise (and variance) from noisy latents.
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

/// The network: its configuration and its layers. Every call gets the weights as [`Parameters`], so that weights and their moving
/// average use the same network.
#[derive(Debug, Clone)]
pub struct Latte {
    config: LatteConfig,
    embedding: Embedding,
    condition: ConditionEmbedder,
    blocks: Vec<Block>,
    last: FinalLayer,
    table: ParameterTable,
}

/// The input of the network.
#[derive(Debug, Clone, Copy)]
pub struct Input<'t> {
    /// Noisy latents `[b, f + num_images, c, h, w]`, on any device: the clip, followed by any number of single images (joint
    /// training, §3.4 of the paper), which get spatial attention only.
    pub x: &'t Tensor,
    /// The diffusion time of each clip on the original scale, `[b]`; its images share it.
    pub timesteps: &'t [f64],
    /// The class of each clip, `[b]`; required for class-conditional models, and only for them.
    pub labels: Option<&'t [u32]>,
    /// The class of each image, `[b · num_images]`; required for class-conditional models with images, and only then.
    pub image_labels: Option<&'t [u32]>,
    /// Text embeddings `[b, length, width]`; required for text-conditional models, and only for them.
    pub text: Option<&'t Tensor>,
    /// The number of single images at the end of the frames of `x`.
    pub num_images: usize,
}

impl<'t> Input<'t> {
    /// The input for clips without condition or images.
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
    /// If `config` describes no valid network.
    pub fn new(config: LatteConfig) -> Result<Self> {
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

    /// The configuration of the network.
    pub fn config(&self) -> &LatteConfig {
        &self.config
    }

    /// All parameters, fixed positions included.
    pub fn parameters(&self) -> &[ParameterSpec] {
        self.table.specs()
    }

    /// The names in memory of the parameters that training updates: neither positions nor frozen parameters.
    pub fn trainable(&self) -> Vec<String> {
        self.table.trainable().map(ToString::to_string).collect()
    }

    /// The number of values that training updates.
    pub fn num_trainable(&self) -> usize {
        self.parameters().iter().filter(|s| s.is_trainable()).map(ParameterSpec::num_values).sum()
    }

    /// Initial weights by the official rules; the output of a network with them is exactly 0.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        self.table.draw(rng)
    }

    /// Checks that `source` holds exactly this network's tensors, with their shapes. Fixed positions may be missing or of another
    /// shape, because they are computed if the stored ones do not fit. No tensor is read.
    ///
    /// # Errors
    ///
    /// A message that lists the missing, unknown or wrongly shaped tensors.
    pub fn check(&self, source: &dyn TensorSource) -> std::result::Result<(), String> {
        let wrong = self.table.misfits(source, |name| name == "temp_embed");
        all_fit("the model", &wrong)
    }

    /// Runs the forward pass: predicts noise (or x0 or velocity), and variance values if `learn_sigma` is set.
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
            // Positions are added once, before the first block with temporal attention.
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

    /// Checks the input and computes the sizes.
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
