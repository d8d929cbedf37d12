//! A stack of transformer layers: norm, attention, norm, two products with a sigmoid of its own kind between them.

use candle_core::{D, DType, Device, Tensor};
use latte_ops::{Conv3d, Tape, conv3d, layer_norm};
use latte_weights::{TensorSource, expect_tensor};

use super::super::layers::dense;
use crate::Result;

const EPS: f64 = 1e-5;
/// The width of an attention head.
const HEAD: usize = 64;
/// How many times as wide a layer is inside.
const WIDENING: usize = 4;
/// GELU is taken to be x·σ(1.702x).
const SIGMOID: f64 = 1.702;

/// Which tokens a token attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// All.
    None,
    /// Itself and those before it.
    Causal,
}

/// The products of a layer: name, and its widths as multiples of the tower's.
const PRODUCTS: [(&str, usize, usize); 6] = [
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
    for (product, input, output) in PRODUCTS {
        tensors.push((format!("{name}.{product}.weight"), vec![output * width, input * width]));
        tensors.push((format!("{name}.{product}.bias"), vec![output * width]));
    }
    tensors
}

/// A layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn new(source: &dyn TensorSource, name: &str, width: usize) -> Result<Self> {
        let get = |part: &str| expect_tensor(source, &format!("{name}.{part}"), &[width]);
        Ok(Self { weight: get("weight")?, bias: get("bias")? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tape = Tape::inference();
        let [x, weight, bias] = [x, &self.weight, &self.bias].map(|t| tape.constant(t.clone()));
        Ok(layer_norm(&tape, &x, &weight, &bias, EPS)?.tensor().clone())
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
    /// Queries, keys and values at once.
    qkv: Conv3d,
    out: Conv3d,
    mlp: [Conv3d; 2],
}

impl Tower {
    pub(super) fn new(source: &dyn TensorSource, name: &str, layers: usize, width: usize, mask: Mask) -> Result<Self> {
        let layer = |number: usize| -> Result<Layer> {
            let name = format!("{name}.{number}");
            let product = |index: usize| -> Result<[Tensor; 2]> {
                let (product, input, output) = PRODUCTS[index];
                let weight = expect_tensor(source, &format!("{name}.{product}.weight"), &[output * width, input * width])?;
                Ok([weight, expect_tensor(source, &format!("{name}.{product}.bias"), &[output * width])?])
            };
            let [[q, q_bias], [k, k_bias], [v, v_bias]] = [product(0)?, product(1)?, product(2)?];
            let packed = |index: usize| -> Result<Conv3d> {
                let [weight, bias] = product(index)?;
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
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            let attended = self.attention(&product(&layer.norms[0].forward(&x)?, &layer.qkv)?)?;
            x = (x + product(&attended, &layer.out)?)?;
            let inner = product(&layer.norms[1].forward(&x)?, &layer.mlp[0])?;
            let gate = ((&inner * -SIGMOID)?.exp()? + 1.0)?.recip()?;
            x = (x + product(&(inner * gate)?, &layer.mlp[1])?)?;
        }
        Ok(x)
    }

    /// `qkv` `[n, tokens, 3·d]` to `[n, tokens, d]`.
    fn attention(&self, qkv: &Tensor) -> Result<Tensor> {
        let (n, tokens, width) = qkv.dims3()?;
        let heads = width / 3 / HEAD;
        let qkv = qkv.reshape((n, tokens, 3, heads, HEAD))?.permute((2, 0, 3, 1, 4))?.contiguous()?; // [3, n, heads, tokens, 64]
        let [q, k, v] = [qkv.get(0)?, qkv.get(1)?, qkv.get(2)?];
        let mut scores = (q.matmul(&k.t()?)? / (HEAD as f64).sqrt())?; // [n, heads, tokens, tokens]
        if self.mask == Mask::Causal {
            let allowed = |query: usize, key: usize| if key <= query { 0.0 } else { f32::NEG_INFINITY };
            let mask: Vec<f32> = (0..tokens * tokens).map(|i| allowed(i / tokens, i % tokens)).collect();
            scores = scores.broadcast_add(&Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?)?;
        }
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        Ok(weights.matmul(&v)?.permute((0, 2, 1, 3))?.contiguous()?.reshape((n, tokens, width / 3))?)
    }
}

/// The product of every row of `x` `[…, d]`.
pub(super) fn product(x: &Tensor, weights: &Conv3d) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let Some(width) = shape.pop() else { return Ok(Tensor::zeros(0, DType::F32, &Device::Cpu)?) };
    let rows = x.elem_count() / width.max(1);
    let y = conv3d(&x.reshape((rows, 1, 1, 1, width))?, weights)?;
    shape.push(weights.output_channels());
    Ok(y.reshape(shape)?)
}
