//! The network of an `AutoencoderKL` on the tape, with the names of diffusers.
//!
//! Shape letters: `n` frames, `h w` height and width, `c` channels. Frames are channels last, as the operations want them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;
use latte_model::vae::{AutoencoderKl, KlConfig};
use latte_ops::{
    Attention, AttentionAxis, Convolution, ConvolutionWeights, GroupNorm, Parameters, Tape, Var, add, attention, concat,
    convolution, group_norm, linear, reshape,
};

use crate::error::{Error, Result};

/// The ε of every norm.
const EPS: f64 = 1e-6;

const POINTWISE: Convolution<'static> = Convolution::PLAIN;
const SAME: Convolution<'static> = Convolution::SAME;
/// Zeros at the right and below only.
const DOWN: Convolution<'static> = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
const UP: Convolution<'static> = Convolution { upsample: true, ..Convolution::SAME };

/// Encoder and decoder, for training.
#[derive(Debug, Clone)]
pub struct VaeNetwork {
    config: KlConfig,
    tensors: BTreeMap<String, Vec<usize>>,
}

impl VaeNetwork {
    /// The network of this configuration.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn new(config: KlConfig) -> Result<Self> {
        let tensors = AutoencoderKl::tensors(&config)?;
        Ok(Self { config, tensors })
    }

    /// The configuration.
    pub fn config(&self) -> &KlConfig {
        &self.config
    }

    /// The names and shapes of all weights.
    pub fn tensors(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.tensors
    }

    /// First weights, as PyTorch draws them: norms are 1 and 0, everything else is uniform within ±1/√(values that are summed).
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        let mut weights = Parameters::new();
        for (name, shape) in &self.tensors {
            // A bias is drawn as the weight that it belongs to.
            let weight = name.strip_suffix(".bias").map_or_else(|| name.clone(), |layer| format!("{layer}.weight"));
            let summed: usize = self.tensors.get(&weight).unwrap_or(shape).iter().skip(1).product();
            let is_norm = self.tensors.get(&weight).is_none_or(|shape| shape.len() == 1);
            let values: Vec<f32> = if is_norm {
                vec![f32::from(u8::from(*name == weight)); shape.iter().product()]
            } else {
                let bound = 1.0 / (summed as f32).sqrt();
                rng.rand_f32(shape.iter().product()).into_iter().map(|v| (2.0 * v - 1.0) * bound).collect()
            };
            weights.insert(name.clone(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?);
        }
        Ok(weights)
    }

    /// What keeps `weights` from being those of this network.
    ///
    /// # Errors
    ///
    /// If there are other names or shapes.
    pub fn check(&self, weights: &Parameters) -> std::result::Result<(), String> {
        for (name, shape) in &self.tensors {
            match weights.get(name) {
                Err(_) => return Err(format!("`{name}` is missing")),
                Ok(found) if found.dims() != shape => {
                    return Err(format!("`{name}` should be {shape:?} but is {:?}", found.dims()));
                }
                Ok(_) => {}
            }
        }
        let unknown = weights.iter().find(|(name, _)| !self.tensors.contains_key(*name));
        unknown.map_or(Ok(()), |(name, _)| Err(format!("`{name}` is not known")))
    }

    /// Means and logarithms of variances `[n, h/s, w/s, 2·latent]` of frames `[n, h, w, 3]` in `[-1, 1]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit.
    pub fn encode<'w>(&self, tape: &Tape<'w>, weights: &'w Parameters, frames: &Var) -> Result<Var> {
        let on = On { tape, weights, groups: self.config.norm_num_groups };
        let levels = &self.config.block_out_channels;
        let mut x = on.convolution("encoder.conv_in", frames, &SAME)?;
        for level in 0..levels.len() {
            let name = format!("encoder.down_blocks.{level}");
            for index in 0..self.config.layers_per_block {
                x = on.resnet(format!("{name}.resnets.{index}"), &x)?;
            }
            if level + 1 < levels.len() {
                x = on.convolution(&format!("{name}.downsamplers.0.conv"), &x, &DOWN)?;
            }
        }
        x = self.mid(&on, "encoder.mid_block", &x)?;
        x = on.out("encoder", &x)?;
        if self.config.use_quant_conv {
            x = on.convolution("quant_conv", &x, &POINTWISE)?;
        }
        Ok(x)
    }

    /// Frames `[n, h, w, 3]`, around `[-1, 1]`, of latents `[n, h/s, w/s, latent]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit.
    pub fn decode<'w>(&self, tape: &Tape<'w>, weights: &'w Parameters, latents: &Var) -> Result<Var> {
        let on = On { tape, weights, groups: self.config.norm_num_groups };
        let levels = self.config.block_out_channels.len();
        let mut x = latents.clone();
        if self.config.use_post_quant_conv {
            x = on.convolution("post_quant_conv", &x, &POINTWISE)?;
        }
        x = on.convolution("decoder.conv_in", &x, &SAME)?;
        x = self.mid(&on, "decoder.mid_block", &x)?;
        for level in 0..levels {
            let name = format!("decoder.up_blocks.{level}");
            for index in 0..=self.config.layers_per_block {
                x = on.resnet(format!("{name}.resnets.{index}"), &x)?;
            }
            if level + 1 < levels {
                x = on.convolution(&format!("{name}.upsamplers.0.conv"), &x, &UP)?;
            }
        }
        on.out("decoder", &x)
    }

    fn mid(&self, on: &On<'_, '_>, name: &str, x: &Var) -> Result<Var> {
        let mut x = on.resnet(format!("{name}.resnets.0"), x)?;
        if self.config.mid_block_add_attention {
            x = on.attention(&format!("{name}.attentions.0"), &x)?;
        }
        on.resnet(format!("{name}.resnets.1"), &x)
    }
}

/// Layers on a tape, by the names of their weights.
#[derive(Clone, Copy)]
struct On<'t, 'w> {
    tape: &'t Tape<'w>,
    weights: &'w Parameters,
    groups: usize,
}

impl<'w> On<'_, 'w> {
    /// Weight and bias of the layer `name`.
    fn parameters(&self, name: &str) -> Result<[Var; 2]> {
        let parameter = |name: String| -> Result<Var> { Ok(self.tape.parameter(&name, self.weights.get(&name)?)) };
        Ok([parameter(format!("{name}.weight"))?, parameter(format!("{name}.bias"))?])
    }

    fn convolution(&self, name: &str, x: &Var, options: &Convolution<'_>) -> Result<Var> {
        let [weight, bias] = self.parameters(name)?;
        Ok(convolution(self.tape, x, &ConvolutionWeights::new(self.tape, &weight, &bias)?, options)?)
    }

    /// 3 × 3, added to `x`.
    fn convolution_onto(&self, x: &Var, name: &str, h: &Var) -> Result<Var> {
        self.convolution(name, h, &Convolution { residual: Some(x), ..SAME })
    }

    fn norm(&self, name: &str, x: &Var, silu: bool) -> Result<Var> {
        let [weight, bias] = self.parameters(name)?;
        Ok(group_norm(self.tape, x, &GroupNorm::new(&weight, &bias, self.groups, EPS)?, silu)?)
    }

    /// Norm, SiLU, 3 × 3, twice, beside a connection that skips them.
    fn resnet(&self, name: String, x: &Var) -> Result<Var> {
        let (weights, groups) = (self.weights, self.groups);
        self.tape.segment(&[x], move |tape: &Tape<'w>, inputs: &[Var]| -> Result<Var> {
            let on = On { tape, weights, groups };
            let x = &inputs[0];
            let h = on.convolution(&format!("{name}.conv1"), &on.norm(&format!("{name}.norm1"), x, true)?, &SAME)?;
            let h = on.norm(&format!("{name}.norm2"), &h, true)?;
            let shortcut = format!("{name}.conv_shortcut");
            let x = if weights.contains(&format!("{shortcut}.weight")) { &on.convolution(&shortcut, x, &POINTWISE)? } else { x };
            on.convolution_onto(x, &format!("{name}.conv2"), &h)
        })
    }

    /// All places of a frame attend to each other, with one head.
    fn attention(&self, name: &str, x: &Var) -> Result<Var> {
        let &[n, h, w, c] = x.dims() else { return Err(Error::Ops(unexpected(x))) };
        let tokens = reshape(self.tape, &self.norm(&format!("{name}.group_norm"), x, false)?, &[n, 1, h * w, c])?;
        let layer = |part: &str, x: &Var| -> Result<Var> {
            let [weight, bias] = self.parameters(&format!("{name}.{part}"))?;
            Ok(linear(self.tape, x, &weight, Some(&bias))?)
        };
        let [q, k, v] = [layer("to_q", &tokens)?, layer("to_k", &tokens)?, layer("to_v", &tokens)?];
        let qkv = concat(self.tape, &[&q, &k, &v], 3)?; // [n, 1, h·w, 3c]
        let kind = Attention { axis: AttentionAxis::Spatial, num_heads: 1, heads: 0..1, rope: None };
        let y = layer("to_out.0", &attention(self.tape, &qkv, &kind)?)?; // [n, 1, h·w, c]
        Ok(add(self.tape, x, &reshape(self.tape, &y, &[n, h, w, c])?)?)
    }

    /// Norm, SiLU, 3 × 3.
    fn out(&self, name: &str, x: &Var) -> Result<Var> {
        let normal = self.norm(&format!("{name}.conv_norm_out"), x, true)?;
        self.convolution(&format!("{name}.conv_out"), &normal, &SAME)
    }
}

fn unexpected(x: &Var) -> latte_ops::Error {
    latte_ops::Error::Shape { op: "attention", expected: "frames [n, h, w, c]".into(), got: format!("{:?}", x.dims()) }
}
