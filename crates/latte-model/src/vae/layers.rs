//! The layers of encoder and decoder, on frames `[n, h, w, c]` (channels last): one frame at a time for inference, a batch for
//! training.

use std::sync::Arc;

use latte_ops::{
    Attention, AttentionAxis, Convolution, ConvolutionWeights, GroupNorm, GroupSums, Normalisation, Tape, Var, add, attention,
    concat, convolution, narrow, reshape,
};

use super::config::Sizes;
use super::convolution::{Conv, Norm, Pass, Statistics};
use super::reader::Reader;
use crate::layers::Linear;
use crate::{Error, Result};

/// The ε of every norm within a frame.
pub(super) const EPS: f64 = 1e-6;

/// A layer between pixels and latents.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    /// 3 × 3.
    Convolution(Conv),
    /// 1 × 1.
    Pointwise(Conv),
    Resnet(Box<Resnet>),
    Attention(Box<FrameAttention>),
    /// 3 × 3 with stride 2 and zeros at the right and below only.
    Down(Conv),
    /// Each pixel is repeated to four, then 3 × 3.
    Up(Conv),
    /// Norm, SiLU, 3 × 3.
    Out(Norm, Conv),
}

/// Statistics of the tensor itself.
pub(super) struct Own;

impl Statistics for Own {
    fn of(&mut self, _: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>> {
        Ok(Some(norm.of(x, silu)?))
    }
}

/// Statistics for one tile of a frame: those of the whole frame for the norms where they are known, and sums for the first norm
/// where they are not.
pub(super) struct OfTile<'k> {
    /// Sums over the whole frame for the first norms.
    pub(super) known: &'k [GroupSums],
    pub(super) next: usize,
    /// Start and length, in height and width, of the part that belongs to this tile only.
    pub(super) core: [[usize; 2]; 2],
    /// The sums over that part for the first norm whose statistics are not known.
    pub(super) found: Option<GroupSums>,
}

impl Statistics for OfTile<'_> {
    fn of(&mut self, tape: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>> {
        self.next += 1;
        if let Some(known) = self.known.get(self.next - 1) {
            return Ok(Some(norm.normalisation(known, silu)?));
        }
        let [[top, height], [left, width]] = self.core;
        self.found = Some(norm.sums(&narrow(tape, &narrow(tape, x, 1, top, height)?, 2, left, width)?)?);
        Ok(None)
    }
}

impl Layer {
    /// The layer's output; `None` if statistics are not known yet.
    pub(super) fn forward<'w>(
        &'w self,
        tape: &Tape<'w>,
        pass: Pass<'w>,
        x: Var,
        statistics: &mut dyn Statistics,
    ) -> Result<Option<Var>> {
        const DOWN: Convolution<'_> = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
        const UP: Convolution<'_> = Convolution { upsample: true, ..Convolution::SAME };
        Ok(Some(match self {
            Self::Convolution(layer) => layer.forward(tape, pass, &x, &Convolution::SAME)?,
            Self::Pointwise(layer) => layer.forward(tape, pass, &x, &Convolution::PLAIN)?,
            // On a recording tape, blocks are segments, which activation checkpointing can compute again.
            Self::Resnet(resnet) if pass.records => {
                tape.segment(&[&x], move |tape, v| known(resnet.forward(tape, pass, v[0].clone(), &mut Own)?))?
            }
            Self::Resnet(resnet) => return resnet.forward(tape, pass, x, statistics),
            Self::Attention(attention) => attention.forward(tape, pass, &x)?,
            Self::Down(layer) => layer.forward(tape, pass, &x, &DOWN)?,
            Self::Up(layer) => layer.forward(tape, pass, &x, &UP)?,
            Self::Out(norm, layer) => {
                let Some(input) = norm.before(tape, pass, &x, true, statistics)? else { return Ok(None) };
                layer.after(tape, pass, &input, &Convolution::SAME)?
            }
        }))
    }

    /// The receptive field around a position of the output (of the input, for [`Layer::Down`]); `None`: the whole frame.
    pub(super) fn reach(&self) -> Option<usize> {
        match self {
            Self::Pointwise(_) => Some(0),
            Self::Convolution(_) | Self::Down(_) | Self::Up(_) | Self::Out(..) => Some(1),
            Self::Resnet(_) => Some(2),
            Self::Attention(_) => None,
        }
    }
}

/// Applies all layers to whole frames.
pub(super) fn whole<'w>(tape: &Tape<'w>, pass: Pass<'w>, layers: &'w [Layer], x: Var) -> Result<Var> {
    layers.iter().try_fold(x, |x, layer| known(layer.forward(tape, pass, x, &mut Own)?))
}

/// The output with [`Own`] statistics, which are always known.
fn known(x: Option<Var>) -> Result<Var> {
    x.ok_or_else(|| Error::config("autoencoder", "no statistics for a frame"))
}

/// Norm, SiLU, 3 × 3, twice, with a skip connection.
#[derive(Debug, Clone)]
pub(super) struct Resnet {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    /// 1 × 1, if the number of channels changes.
    shortcut: Option<Conv>,
}

impl Resnet {
    pub(super) fn read(reader: &Reader<'_>, name: &str, [input, output]: [usize; 2], groups: usize) -> Result<Self> {
        Ok(Self {
            norm1: reader.norm(&format!("{name}.norm1"), input, groups, EPS)?,
            conv1: reader.convolution(&format!("{name}.conv1"), [input, output], &[3, 3])?,
            norm2: reader.norm(&format!("{name}.norm2"), output, groups, EPS)?,
            conv2: reader.convolution(&format!("{name}.conv2"), [output, output], &[3, 3])?,
            shortcut: (input != output)
                .then(|| reader.convolution(&format!("{name}.conv_shortcut"), [input, output], &[1, 1]))
                .transpose()?,
        })
    }

    /// [`forward`](Self::forward) for a whole frame.
    pub(super) fn of_frame(&self, tape: &Tape<'_>, pass: Pass<'_>, x: Var) -> Result<Var> {
        known(self.forward(tape, pass, x, &mut Own)?)
    }

    /// Takes `x` by value, so that it is freed before the second half if a shortcut replaces it.
    fn forward(&self, tape: &Tape<'_>, pass: Pass<'_>, x: Var, statistics: &mut dyn Statistics) -> Result<Option<Var>> {
        let h = {
            let Some(input) = self.norm1.before(tape, pass, &x, true, statistics)? else { return Ok(None) };
            self.conv1.after(tape, pass, &input, &Convolution::SAME)?
        };
        let Some(input) = self.norm2.before(tape, pass, &h, true, statistics)? else { return Ok(None) };
        let x = match &self.shortcut {
            Some(shortcut) => {
                let short = shortcut.forward(tape, pass, &x, &Convolution::PLAIN)?;
                drop(x); // freed here rather than at the end of the block: it is the largest tensor of a level
                short
            }
            None => x,
        };
        Ok(Some(self.conv2.after(tape, pass, &input, &Convolution { residual: Some(&x), ..Convolution::SAME })?))
    }
}

/// Self-attention among all pixels of a frame, with one head.
#[derive(Debug, Clone)]
pub(super) struct FrameAttention {
    norm: Norm,
    /// Queries, keys, values, and the output projection.
    layers: [Linear; 4],
    /// For inference: queries, keys and values concatenated, and the output projection, as convolutions of 1 × 1.
    prepared: Option<[Arc<ConvolutionWeights>; 2]>,
}

impl FrameAttention {
    pub(super) fn read(reader: &Reader<'_>, name: &str, channels: usize, groups: usize) -> Result<Self> {
        let names = ["to_q", "to_k", "to_v", "to_out.0"].map(|part| format!("{name}.{part}"));
        let norm = reader.norm(&format!("{name}.group_norm"), channels, groups, EPS)?;
        let layers = names.each_ref().map(|name| reader.linear(name, channels));
        let side_by_side = |names: &[String]| reader.pointwise(names, channels);
        let prepared = match (side_by_side(&names[..3])?, side_by_side(&names[3..])?) {
            (Some(qkv), Some(out)) => Some([Arc::new(qkv), Arc::new(out)]),
            _ => None,
        };
        Ok(Self { norm, layers, prepared })
    }

    /// In inference, the joint matmul of queries, keys and values applies the norm while it reads the frame, and the last matmul
    /// adds the frame. Training has separate linear layers, under the names of their gradients: a norm inside a convolution has no
    /// gradient (see [`Norm::before`]).
    fn forward(&self, tape: &Tape<'_>, pass: Pass<'_>, x: &Var) -> Result<Var> {
        let Some(input) = self.norm.before(tape, pass, x, false, &mut Own)? else { return known(None) };
        if pass.records {
            return self.forward_recorded(tape, pass, x, input.image());
        }
        let [qkv, out] = match &self.prepared {
            Some(prepared) => prepared.clone(),
            None => [pointwise(tape, pass, &self.layers[..3])?, pointwise(tape, pass, &self.layers[3..])?],
        };
        let qkv = input.through(tape, &qkv, &Convolution::PLAIN)?; // [n, h, w, 3c]
        let kind = Attention { axis: AttentionAxis::Joint, num_heads: 1, heads: 0..1, rope: None };
        let y = attention(tape, &qkv, &kind)?; // [n, h, w, c]
        Ok(convolution(tape, &y, &out, &Convolution { residual: Some(x), ..Convolution::PLAIN })?)
    }

    fn forward_recorded(&self, tape: &Tape<'_>, pass: Pass<'_>, x: &Var, normal: &Var) -> Result<Var> {
        let &[n, h, w, c] = x.dims() else {
            return Err(Error::Shape { name: "x".into(), expected: "frames [n, h, w, c]".into(), got: x.dims().to_vec() });
        };
        let weights = pass.weights()?;
        let tokens = reshape(tape, normal, &[n, 1, h * w, c])?;
        let [to_q, to_k, to_v, to_out] = &self.layers;
        let [q, k, v] = [to_q, to_k, to_v].map(|layer| layer.forward(tape, weights, &tokens));
        let qkv = concat(tape, &[&q?, &k?, &v?], 3)?; // [n, 1, h·w, 3c]
        let kind = Attention { axis: AttentionAxis::Spatial, num_heads: 1, heads: 0..1, rope: None };
        let y = to_out.forward(tape, weights, &attention(tape, &qkv, &kind)?)?; // [n, 1, h·w, c]
        Ok(add(tape, x, &reshape(tape, &y, &[n, h, w, c])?)?)
    }
}

/// Concatenated linear layers as a convolution of 1 × 1.
fn pointwise(tape: &Tape<'_>, pass: Pass<'_>, layers: &[Linear]) -> Result<Arc<ConvolutionWeights>> {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for layer in layers {
        let (weight, bias) = layer.parameters(tape, pass.weights()?)?;
        weights.push(weight);
        biases.extend(bias);
    }
    let weight = concat(tape, &weights.iter().collect::<Vec<_>>(), 0)?;
    let bias = concat(tape, &biases.iter().collect::<Vec<_>>(), 0)?;
    let &[output, input] = weight.dims() else { return Err(Error::config("autoencoder", "expected a matrix")) };
    Ok(Arc::new(ConvolutionWeights::new(tape, &reshape(tape, &weight, &[output, input, 1, 1])?, &bias)?))
}

/// The layers from pixels to the moments of a latent.
pub(super) fn encoder(reader: &Reader<'_>, sizes: &Sizes, quant: bool) -> Result<Vec<Layer>> {
    let levels = &sizes.levels;
    let mut layers = vec![Layer::Convolution(reader.convolution("encoder.conv_in", [sizes.in_channels, levels[0]], &[3, 3])?)];
    let mut channels = levels[0];
    for (level, &out) in levels.iter().enumerate() {
        let name = format!("encoder.down_blocks.{level}");
        for index in 0..sizes.layers {
            layers.push(resnet(reader, &format!("{name}.resnets.{index}"), [channels, out], sizes.groups)?);
            channels = out;
        }
        if level + 1 < levels.len() {
            layers.push(Layer::Down(reader.convolution(&format!("{name}.downsamplers.0.conv"), [out; 2], &[3, 3])?));
        }
    }
    layers.extend(mid(reader, "encoder.mid_block", channels, sizes)?);
    layers.push(out(reader, "encoder", [channels, 2 * sizes.latent], sizes.groups)?);
    if quant {
        layers.push(Layer::Pointwise(reader.convolution("quant_conv", [2 * sizes.latent; 2], &[1, 1])?));
    }
    Ok(layers)
}

/// The layers from a latent to pixels.
pub(super) fn decoder(reader: &Reader<'_>, sizes: &Sizes, post_quant: bool) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if post_quant {
        layers.push(Layer::Pointwise(reader.convolution("post_quant_conv", [sizes.latent; 2], &[1, 1])?));
    }
    let mut channels = sizes.levels[sizes.levels.len() - 1];
    layers.push(Layer::Convolution(reader.convolution("decoder.conv_in", [sizes.latent, channels], &[3, 3])?));
    layers.extend(mid(reader, "decoder.mid_block", channels, sizes)?);
    for (level, &out) in sizes.levels.iter().rev().enumerate() {
        let name = format!("decoder.up_blocks.{level}");
        for index in 0..=sizes.layers {
            layers.push(resnet(reader, &format!("{name}.resnets.{index}"), [channels, out], sizes.groups)?);
            channels = out;
        }
        if level + 1 < sizes.levels.len() {
            layers.push(Layer::Up(reader.convolution(&format!("{name}.upsamplers.0.conv"), [out; 2], &[3, 3])?));
        }
    }
    layers.push(out(reader, "decoder", [channels, sizes.out_channels], sizes.groups)?);
    Ok(layers)
}

fn resnet(reader: &Reader<'_>, name: &str, channels: [usize; 2], groups: usize) -> Result<Layer> {
    Ok(Layer::Resnet(Box::new(Resnet::read(reader, name, channels, groups)?)))
}

fn mid(reader: &Reader<'_>, name: &str, channels: usize, sizes: &Sizes) -> Result<Vec<Layer>> {
    let mut layers = vec![resnet(reader, &format!("{name}.resnets.0"), [channels; 2], sizes.groups)?];
    if sizes.attention {
        layers.push(Layer::Attention(Box::new(FrameAttention::read(
            reader,
            &format!("{name}.attentions.0"),
            channels,
            sizes.groups,
        )?)));
    }
    layers.push(resnet(reader, &format!("{name}.resnets.1"), [channels; 2], sizes.groups)?);
    Ok(layers)
}

/// `name.conv_norm_out`, SiLU, `name.conv_out`.
pub(super) fn out(reader: &Reader<'_>, name: &str, channels: [usize; 2], groups: usize) -> Result<Layer> {
    Ok(Layer::Out(
        reader.norm(&format!("{name}.conv_norm_out"), channels[0], groups, EPS)?,
        reader.convolution(&format!("{name}.conv_out"), channels, &[3, 3])?,
    ))
}
