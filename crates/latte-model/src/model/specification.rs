//! Which parameters a model has: names (the official checkpoint's), shapes, and how each is initialised.

use candle_core::{Device, Tensor};
use latte_ops::Parameters;

use super::config::{BlockLayout, Condition, Injection, LatteConfig, PatchEmbedding, TemporalPosition};
use super::position::{self, TIMESTEP_WIDTH};
use crate::Result;
use crate::noise::TorchRng;

/// How a parameter is initialised (the official code's rules).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// Uniform in ±√(6 / (fan in + fan out)) of the weight seen as a matrix `[first axis, the rest]`.
    Xavier,
    /// Normal with standard deviation 0.02.
    Normal,
    /// Zero: the model starts as the identity, and its output as 0.
    Zeros,
    /// One.
    Ones,
    /// The spatial positions; fixed.
    SpatialPositions,
    /// The temporal positions; fixed.
    TemporalPositions,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// The name, as in the official checkpoint where that has it.
    pub name: String,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    pub(crate) init: Init,
}

impl ParameterSpec {
    /// Whether training changes it. Positions are fixed although checkpoints store them.
    pub fn is_trainable(&self) -> bool {
        !matches!(self.init, Init::SpatialPositions | Init::TemporalPositions)
    }

    /// How many values it holds.
    pub fn num_values(&self) -> usize {
        self.shape.iter().product()
    }
}

struct Specs(Vec<ParameterSpec>);

impl Specs {
    fn put(&mut self, name: impl Into<String>, shape: &[usize], init: Init) {
        self.0.push(ParameterSpec { name: name.into(), shape: shape.to_vec(), init });
    }

    fn linear(&mut self, name: &str, [out, input]: [usize; 2], init: Init) {
        self.put(format!("{name}.weight"), &[out, input], init);
        self.put(format!("{name}.bias"), &[out], Init::Zeros);
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.put(format!("{name}.weight"), &[d], Init::Ones);
        self.put(format!("{name}.bias"), &[d], Init::Zeros);
    }
}

/// All parameters of a model.
pub(crate) fn specification(config: &LatteConfig) -> Vec<ParameterSpec> {
    let LatteConfig { in_channels: c, patch_size: p, hidden_size: d, input_size: [h, w], .. } = *config;
    let mut specs = Specs(Vec::new());
    specs.put("pos_embed", &[1, (h / p) * (w / p), d], Init::SpatialPositions);
    if config.temporal_position == TemporalPosition::Absolute {
        specs.put("temp_embed", &[1, config.num_frames / config.frames_per_token(), d], Init::TemporalPositions);
    }
    match config.patch_embedding {
        PatchEmbedding::UniformFrame => specs.put("x_embedder.proj.weight", &[d, c, p, p], Init::Xavier),
        PatchEmbedding::CompressionFrame { tubelet } => specs.put("x_embedder.proj.weight", &[d, c, tubelet, p, p], Init::Xavier),
    }
    specs.put("x_embedder.proj.bias", &[d], Init::Zeros);
    specs.linear("t_embedder.mlp.0", [d, TIMESTEP_WIDTH], Init::Normal);
    specs.linear("t_embedder.mlp.2", [d, d], Init::Normal);
    match config.condition {
        Condition::None => {}
        Condition::Class { num_classes, dropout } => {
            specs.put("y_embedder.embedding_table.weight", &[num_classes + usize::from(dropout > 0.0), d], Init::Normal);
        }
        Condition::Text { length, width } => specs.linear("text_embedding_projection.1", [d, length * width], Init::Xavier),
    }
    for index in 0..config.depth {
        block(&mut specs, config, index);
    }
    let out = config.out_channels();
    specs.linear("final_layer.linear", [p * p * out, d], Init::Zeros);
    match config.injection {
        Injection::SAdaln => specs.linear("final_layer.adaLN_modulation.1", [2 * d, d], Init::Zeros),
        Injection::AllTokens => specs.norm("final_layer.norm_final", d),
    }
    if let PatchEmbedding::CompressionFrame { tubelet } = config.patch_embedding {
        specs.put("final_layer.temporal_upsample.weight", &[out, out, tubelet, 1, 1], Init::Xavier);
        specs.put("final_layer.temporal_upsample.bias", &[out], Init::Zeros);
    }
    specs.0
}

fn block(specs: &mut Specs, config: &LatteConfig, index: usize) {
    let (d, mlp) = (config.hidden_size, config.mlp_size());
    let name = |part: &str| format!("blocks.{index}.{part}");
    let factorised = config.block_layout == BlockLayout::FactorisedAttention;
    specs.linear(&name("attn.qkv"), [3 * d, d], Init::Xavier);
    specs.linear(&name("attn.proj"), [d, d], Init::Xavier);
    if factorised {
        specs.linear(&name("attn_temp.qkv"), [3 * d, d], Init::Xavier);
        specs.linear(&name("attn_temp.proj"), [d, d], Init::Xavier);
    }
    specs.linear(&name("mlp.fc1"), [mlp, d], Init::Xavier);
    specs.linear(&name("mlp.fc2"), [d, mlp], Init::Xavier);
    match config.injection {
        Injection::SAdaln => specs.linear(&name("adaLN_modulation.1"), [6 * d, d], Init::Zeros),
        Injection::AllTokens => {
            specs.norm(&name("norm1"), d);
            specs.norm(&name("norm2"), d);
            if factorised {
                specs.norm(&name("norm_temp"), d);
            }
        }
    }
}

/// Fresh values for all parameters, drawn in the order of `specs`.
pub(crate) fn initialise(config: &LatteConfig, specs: &[ParameterSpec], rng: &mut TorchRng) -> Result<Parameters> {
    let device = Device::Cpu;
    let LatteConfig { patch_size: p, hidden_size: d, input_size: [h, w], .. } = *config;
    let mut parameters = Parameters::new();
    for spec in specs {
        let shape = spec.shape.as_slice();
        let tensor = match spec.init {
            Init::Xavier => {
                let bound = (6.0 / (shape[0] + spec.num_values() / shape[0]) as f64).sqrt();
                let values = rng.rand_f32(spec.num_values()).into_iter().map(|u| ((2.0 * f64::from(u) - 1.0) * bound) as f32);
                Tensor::from_vec(values.collect::<Vec<_>>(), shape, &device)?
            }
            Init::Normal => (rng.randn(shape)? * 0.02)?,
            Init::Zeros => Tensor::zeros(shape, candle_core::DType::F32, &device)?,
            Init::Ones => Tensor::ones(shape, candle_core::DType::F32, &device)?,
            Init::SpatialPositions => position::spatial(h / p, w / p, d, &device)?.unsqueeze(0)?,
            Init::TemporalPositions => position::temporal(shape[1], d, &device)?.unsqueeze(0)?,
        };
        parameters.insert(spec.name.clone(), tensor.copy()?);
    }
    Ok(parameters)
}
