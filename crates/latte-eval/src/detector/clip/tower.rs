//! A stack of transformer layers: norm, attention, norm, and an MLP with the activation `x · sigmoid(1.702 x)`.

use candle_core::{Device, Tensor};
use latte_ops::{Activation, Conv3d, Tape, Var, activation, add, conv3d, dot_product_attention, layer_norm, narrow, reshape};
use latte_weights::{TensorSource, expect_tensor};

use super::super::layers::dense;
use crate::{Error, Result};

const EPS: f64 = 1e-5;
/// The width of an attention head.
const HEAD: usize = 64;
/// Ratio of the hidden width of the MLP to the width of the layer.
const WIDENING: usize = 4;

/// The attention mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// Every token attends to all tokens.
    None,
    /// Every token attends to itself and to earlier tokens.
    Causal,
}

/// The matmuls of a layer: name, input and output width as multiples of the tower's width.
const MATMULS: [(&str, usize, usize); 6] = [
    ("self_attn.q_proj", 1, 1),
    ("self_attn.k_proj", 1, 1),
    ("self_attn.v_proj", 1, 1),
    ("self_attn.out_proj", 1, 1),
    ("mlp.fc1", 1, WIDENING),
    ("mlp.fc2", WIDENING, 1),
];

/// The names and shapes of the tensors of the layer called `name`.
pub(super) fn tensors(name: &str, width: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for norm in ["layer_norm1", "layer_norm2"] {
        tensors.extend(["weight", "bias"].map(|part| (format!("{name}.{norm}.{part}"), vec![width])));
    }
    for (layer, input, output) in MATMULS {
        tensors.push((format!("{name}.{layer}.weight"), vec![output * width, input * width]));
        tensors.push((format!("{name}.{layer}.bias"), vec![output * width]));
    }
    tensors
}

/// A layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Var,
    bias: Var,
}

impl Norm {
    pub(super) fn new(source: &dyn TensorSource, name: &str, width: usize) -> Result<Self> {
        let get = |part: &str| -> Result<Var> {
            Ok(Tape::inference().constant(expect_tensor(source, &format!("{name}.{part}"), &[width])?))
        };
        Ok(Self { weight: get("weight")?, bias: get("bias")? })
    }

    pub(super) fn forward(&self, tape: &Tape<'_>, x: &Var) -> Result<Var> {
        Ok(layer_norm(tape, x, &self.weight, &self.bias, EPS)?)
    }
}

/// All layers.
#[derive(Debug)]
pub(super) struct Tower {
    layers: Vec<Layer>,
    mask: Mask,
}

#[derive(Debug)]
struct Layer {
    norms: [Norm; 2],
    /// Queries, keys and values in one matmul.
    qkv: Conv3d,
    out: Conv3d,
    mlp: [Conv3d; 2],
}

impl Tower {
    pub(super) fn new(source: &dyn TensorSource, name: &str, layers: usize, width: usize, mask: Mask) -> Result<Self> {
        let layer = |number: usize| -> Result<Layer> {
            let name = format!("{name}.{number}");
            let matmul = |index: usize| -> Result<[Tensor; 2]> {
                let (layer, input, output) = MATMULS[index];
                let weight = expect_tensor(source, &format!("{name}.{layer}.weight"), &[output * width, input * width])?;
                Ok([weight, expect_tensor(source, &format!("{name}.{layer}.bias"), &[output * width])?])
            };
            let [[q, q_bias], [k, k_bias], [v, v_bias]] = [matmul(0)?, matmul(1)?, matmul(2)?];
            let packed = |index: usize| -> Result<Conv3d> {
                let [weight, bias] = matmul(index)?;
                dense(&weight, &bias, false)
            };
            Ok(Layer {
                norms: [
                    Norm::new(source, &format!("{name}.layer_norm1"), width)?,
                    Norm::new(source, &format!("{name}.layer_norm2"), width)?,
                ],
                qkv: dense(&Tensor::cat(&[&q, &k, &v], 0)?, &Tensor::cat(&[&q_bias, &k_bias, &v_bias], 0)?, false)?,
                out: packed(3)?,
                mlp: [packed(4)?, packed(5)?],
            })
        };
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()?, mask })
    }

    /// `x` `[n, tokens, d]`.
    pub(super) fn forward(&self, tape: &Tape<'_>, x: &Var) -> Result<Var> {
        let mut x = x.clone();
        for layer in &self.layers {
            let qkv = matmul(tape, &layer.norms[0].forward(tape, &x)?, &layer.qkv)?; // [n, tokens, 3·d]
            x = add(tape, &x, &matmul(tape, &self.attention(tape, &qkv)?, &layer.out)?)?;
            let inner = matmul(tape, &layer.norms[1].forward(tape, &x)?, &layer.mlp[0])?;
            let inner = activation(tape, &inner, Activation::QuickGelu)?;
            x = add(tape, &x, &matmul(tape, &inner, &layer.mlp[1])?)?;
        }
        Ok(x)
    }

    /// `qkv` `[n, tokens, 3·d]` to `[n, tokens, d]`.
    fn attention(&self, tape: &Tape<'_>, qkv: &Var) -> Result<Var> {
        let [_, tokens, width] = *qkv.dims() else { return Err(Error::refused("tokens", format!("got {:?}", qkv.dims()))) };
        let d = width / 3;
        let part = |index: usize| narrow(tape, qkv, 2, index * d, d);
        let [q, k, v] = [part(0)?, part(1)?, part(2)?];
        let mask = match self.mask {
            Mask::None => None,
            Mask::Causal => {
                let allowed = |query: usize, key: usize| if key <= query { 0.0 } else { f32::NEG_INFINITY };
                let mask: Vec<f32> = (0..tokens * tokens).map(|i| allowed(i / tokens, i % tokens)).collect();
                Some(tape.from_host(&Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?, qkv.value())?)
            }
        };
        Ok(dot_product_attention(tape, [&q, &k, &v], d / HEAD, 1.0 / (HEAD as f64).sqrt(), mask.as_ref())?)
    }
}

/// The matmul of each row of `x` `[…, d]` with a weight.
pub(super) fn matmul(tape: &Tape<'_>, x: &Var, weights: &Conv3d) -> Result<Var> {
    let mut shape = x.dims().to_vec();
    let Some(width) = shape.pop() else { return Err(Error::refused("tokens", "are no rows")) };
    let rows = shape.iter().product();
    let y = conv3d(tape, &reshape(tape, x, &[rows, 1, 1, 1, width])?, weights)?;
    shape.push(weights.output_channels());
    Ok(reshape(tape, &y, &shape)?)
}
