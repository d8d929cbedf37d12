//! Parameters of the text-to-video transformer: under diffusers' names in files, and joined for fast products in memory.
//!
//! Files hold queries, keys and values as layers of their own. Here they are one layer (`to_qkv`, and `to_kv` in
//! cross-attention, where queries come from elsewhere), so that one product does the work of three and attention reads its
//! result where it lies.

use candle_core::{DType, Device, Tensor};
use latte_ops::Parameters;

use super::config::T2vConfig;
use crate::model::position::TIMESTEP_WIDTH;
use crate::noise::TorchRng;
use crate::weights::{self, TensorSource, all_fit, expect_tensor, misfits};
use crate::{Error, Result};

/// A parameter as files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct T2vParameter {
    /// Its name in diffusers' files.
    pub name: String,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
}

/// Tensors of old or other files that are worked out anew, so that it does not matter whether they are there.
fn is_computed(name: &str) -> bool {
    matches!(name, "pos_embed.pos_embed" | "temp_pos_embed" | "caption_projection.y_embedding")
}

/// The two kinds of blocks, by the names of their lists.
pub(super) const SPATIAL: &str = "transformer_blocks";
pub(super) const TEMPORAL: &str = "temporal_transformer_blocks";

/// All parameters of a file.
pub(super) fn specification(config: &T2vConfig) -> Vec<T2vParameter> {
    let (d, mlp, p) = (config.hidden_size(), config.mlp_size(), config.patch_size);
    let mut all = Vec::new();
    let mut put = |name: String, shape: &[usize]| all.push(T2vParameter { name, shape: shape.to_vec() });
    put("pos_embed.proj.weight".into(), &[d, config.in_channels, p, p]);
    put("pos_embed.proj.bias".into(), &[d]);
    let mut linear = |name: &str, [out, input]: [usize; 2], bias: bool| {
        put(format!("{name}.weight"), &[out, input]);
        if bias {
            put(format!("{name}.bias"), &[out]);
        }
    };
    for (list, has_text) in [(SPATIAL, true), (TEMPORAL, false)] {
        for i in 0..config.num_layers {
            for attention in if has_text { &["attn1", "attn2"][..] } else { &["attn1"] } {
                for part in ["to_q", "to_k", "to_v"] {
                    linear(&format!("{list}.{i}.{attention}.{part}"), [d, d], config.attention_bias);
                }
                linear(&format!("{list}.{i}.{attention}.to_out.0"), [d, d], true);
            }
            linear(&format!("{list}.{i}.ff.net.0.proj"), [mlp, d], true);
            linear(&format!("{list}.{i}.ff.net.2"), [d, mlp], true);
        }
    }
    linear("adaln_single.emb.timestep_embedder.linear_1", [d, TIMESTEP_WIDTH], true);
    linear("adaln_single.emb.timestep_embedder.linear_2", [d, d], true);
    linear("adaln_single.linear", [6 * d, d], true);
    linear("caption_projection.linear_1", [d, config.caption_channels], true);
    linear("caption_projection.linear_2", [d, d], true);
    linear("proj_out", [p * p * config.out_channels, d], true);
    for list in [SPATIAL, TEMPORAL] {
        for i in 0..config.num_layers {
            put(format!("{list}.{i}.scale_shift_table"), &[6, d]);
        }
    }
    put("scale_shift_table".into(), &[2, d]);
    all
}

/// Whether `source` holds exactly the parameters `specs`.
///
/// # Errors
///
/// One that lists what is missing, unknown or of a wrong shape.
pub(super) fn check(specs: &[T2vParameter], source: &dyn TensorSource) -> std::result::Result<(), String> {
    let mut wrong = misfits(specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())), source);
    let known: std::collections::BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let unknown = source.names().into_iter().filter(|name| !known.contains(name.as_str()) && !is_computed(name));
    wrong.extend(unknown.map(|name| format!("`{name}` is not known")));
    all_fit("the text-to-video transformer", &wrong)
}

/// The parameters in memory, read from `source` one by one.
pub(super) fn load(config: &T2vConfig, specs: &[T2vParameter], source: &dyn TensorSource) -> Result<Parameters> {
    check(specs, source).map_err(|what| Error::config("the transformer's weights", what))?;
    let mut parameters = Parameters::new();
    for spec in specs {
        let Some((layer, part)) = spec.name.rsplit_once('.').filter(|(layer, _)| is_joined(layer)) else {
            let tensor = expect_tensor(source, &spec.name, &spec.shape)?;
            parameters.insert(spec.name.clone(), flat_patch(config, &spec.name, tensor)?);
            continue;
        };
        // The first of the layers that are joined brings the others with it.
        let (attention, first) = layer.rsplit_once('.').unwrap_or((layer, ""));
        let parts = joined(attention);
        if parts.first() == Some(&first) {
            let tensors = parts
                .iter()
                .map(|which| expect_tensor(source, &format!("{attention}.{which}.{part}"), &spec.shape))
                .collect::<weights::Result<Vec<_>>>()?;
            parameters.insert(format!("{attention}.{}.{part}", joined_name(attention)), Tensor::cat(&tensors, 0)?);
        } else if !parts.contains(&first) {
            parameters.insert(spec.name.clone(), expect_tensor(source, &spec.name, &spec.shape)?);
        }
    }
    Ok(parameters)
}

/// Whether the layer is one of queries, keys or values.
fn is_joined(layer: &str) -> bool {
    ["to_q", "to_k", "to_v"].iter().any(|part| layer.ends_with(part))
}

/// The layers of an attention that become one.
fn joined(attention: &str) -> &'static [&'static str] {
    if attention.ends_with("attn2") { &["to_k", "to_v"] } else { &["to_q", "to_k", "to_v"] }
}

fn joined_name(attention: &str) -> &'static str {
    if attention.ends_with("attn2") { "to_kv" } else { "to_qkv" }
}

/// The patch embedding's kernel as the matrix `[d, c·p·p]`.
fn flat_patch(config: &T2vConfig, name: &str, tensor: Tensor) -> Result<Tensor> {
    if name == "pos_embed.proj.weight" { Ok(tensor.reshape((config.hidden_size(), ()))?) } else { Ok(tensor) }
}

/// Fresh parameters: weights uniform by Xavier's rule, tables normal with variance 1/d, biases zero. For measuring and for
/// training from nothing.
pub(super) fn initialise(config: &T2vConfig, specs: &[T2vParameter], rng: &mut TorchRng) -> Result<Parameters> {
    let deviation = (config.hidden_size() as f64).powf(-0.5);
    let fresh = Fresh { specs, rng: std::sync::Mutex::new(rng), deviation };
    load(config, specs, &fresh)
}

/// Random tensors in place of a file's.
struct Fresh<'r> {
    specs: &'r [T2vParameter],
    rng: std::sync::Mutex<&'r mut TorchRng>,
    deviation: f64,
}

impl TensorSource for Fresh<'_> {
    fn names(&self) -> Vec<String> {
        self.specs.iter().map(|spec| spec.name.clone()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.specs.iter().find(|spec| spec.name == name).map(|spec| spec.shape.clone())
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> weights::Result<Tensor> {
        Ok(self.fresh(name)?.to_dtype(dtype)?.to_device(device)?)
    }
}

impl Fresh<'_> {
    fn fresh(&self, name: &str) -> weights::Result<Tensor> {
        let shape = self.shape(name).unwrap_or_default();
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if name.ends_with("bias") {
            return Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        if name.ends_with("scale_shift_table") {
            return Ok((rng.randn(shape).map_err(candle_core::Error::wrap)? * self.deviation)?);
        }
        let count: usize = shape.iter().product();
        let bound = (6.0 / (shape[0] + count / shape[0]) as f64).sqrt() as f32;
        let values: Vec<f32> = rng.rand_f32(count).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}
