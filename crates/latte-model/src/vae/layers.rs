//! The layers of encoder and decoder, on one frame `[1, h, w, c]` (channels last).

use latte_ops::{
    Attention, AttentionAxis, Convolution, ConvolutionWeights, GroupNorm, GroupSums, Normalisation, Tape, Var, attention,
    convolution, narrow,
};

use super::config::Sizes;
use super::reader::Reader;
use crate::Result;

/// The ε of every norm of a frame.
pub(super) const EPS: f64 = 1e-6;

/// One step from pixels to latents or back.
pub(super) enum Layer {
    /// 3 × 3.
    Convolution(ConvolutionWeights),
    /// 1 × 1.
    Pointwise(ConvolutionWeights),
    Resnet(Box<Resnet>),
    Attention(FrameAttention),
    /// 3 × 3 with stride 2 and zeros at the right and below only.
    Down(ConvolutionWeights),
    /// Each pixel becomes four, then 3 × 3.
    Up(ConvolutionWeights),
    /// Norm, SiLU, 3 × 3.
    Out(GroupNorm, ConvolutionWeights),
}

/// Where the statistics of a norm come from.
pub(super) trait Statistics {
    /// What `norm` comes down to for `x`; `None` if it is not known yet, which ends the layer.
    fn of(&mut self, tape: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>>;
}

/// Statistics of the tensor itself.
pub(super) struct Own;

impl Statistics for Own {
    fn of(&mut self, _: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>> {
        Ok(Some(norm.of(x, silu)?))
    }
}

/// Statistics of one tile of a frame: those of the whole frame as far as they are known, and the sums for the first that is not.
pub(super) struct OfTile<'k> {
    /// Sums over the whole frame for the first norms.
    pub(super) known: &'k [GroupSums],
    pub(super) next: usize,
    /// First place and length, in height and width, of what belongs to this tile alone.
    pub(super) core: [[usize; 2]; 2],
    /// The sums over that for the first norm that is not known.
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
    /// The layer's result, or `None` where statistics are not known yet.
    pub(super) fn forward(&self, tape: &Tape<'_>, x: Var, statistics: &mut dyn Statistics) -> Result<Option<Var>> {
        Ok(Some(match self {
            Self::Convolution(weights) => convolution(tape, &x, weights, &Convolution::SAME)?,
            Self::Pointwise(weights) => convolution(tape, &x, weights, &Convolution::PLAIN)?,
            Self::Resnet(resnet) => return resnet.forward(tape, x, statistics),
            Self::Attention(attention) => attention.forward(tape, &x)?,
            Self::Down(weights) => {
                convolution(tape, &x, weights, &Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN })?
            }
            Self::Up(weights) => convolution(tape, &x, weights, &Convolution { upsample: true, ..Convolution::SAME })?,
            Self::Out(norm, weights) => {
                let Some(input) = statistics.of(tape, norm, &x, true)? else { return Ok(None) };
                convolution(tape, &x, weights, &Convolution { input: Some(&input), ..Convolution::SAME })?
            }
        }))
    }

    /// How far, in places of its result (of what comes in, for [`Layer::Down`]), the layer looks; `None`: everywhere.
    pub(super) fn reach(&self) -> Option<usize> {
        match self {
            Self::Pointwise(_) => Some(0),
            Self::Convolution(_) | Self::Down(_) | Self::Up(_) | Self::Out(..) => Some(1),
            Self::Resnet(_) => Some(2),
            Self::Attention(_) => None,
        }
    }
}

/// All layers one after the other, on a whole frame.
pub(super) fn whole(tape: &Tape<'_>, layers: &[Layer], x: Var) -> Result<Var> {
    layers.iter().try_fold(x, |x, layer| {
        let dims = x.dims().to_vec();
        layer
            .forward(tape, x, &mut Own)?
            .ok_or_else(|| crate::Error::config("autoencoder", format!("no statistics for {dims:?}")))
    })
}

/// Norm, SiLU, 3 × 3, twice, beside a connection that skips them.
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: ConvolutionWeights,
    norm2: GroupNorm,
    conv2: ConvolutionWeights,
    /// 1 × 1, where the number of channels changes.
    shortcut: Option<ConvolutionWeights>,
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

    /// Takes `x`, so that it is gone when the second half begins if a shortcut stands in for it.
    pub(super) fn forward(&self, tape: &Tape<'_>, x: Var, statistics: &mut dyn Statistics) -> Result<Option<Var>> {
        let Some(input) = statistics.of(tape, &self.norm1, &x, true)? else { return Ok(None) };
        let h = convolution(tape, &x, &self.conv1, &Convolution { input: Some(&input), ..Convolution::SAME })?;
        let Some(input) = statistics.of(tape, &self.norm2, &h, true)? else { return Ok(None) };
        let x = match &self.shortcut {
            Some(shortcut) => {
                let short = convolution(tape, &x, shortcut, &Convolution::PLAIN)?;
                drop(x); // now, and not at the end of the block: it is the largest tensor of a level
                short
            }
            None => x,
        };
        let options = Convolution { input: Some(&input), residual: Some(&x), ..Convolution::SAME };
        Ok(Some(convolution(tape, &h, &self.conv2, &options)?))
    }
}

/// All places of a frame attend to each other, with one head.
pub(super) struct FrameAttention {
    norm: GroupNorm,
    qkv: ConvolutionWeights,
    out: ConvolutionWeights,
}

impl FrameAttention {
    pub(super) fn read(reader: &Reader<'_>, name: &str, channels: usize, groups: usize) -> Result<Self> {
        let qkv = ["to_q", "to_k", "to_v"].map(|part| format!("{name}.{part}"));
        Ok(Self {
            norm: reader.norm(&format!("{name}.group_norm"), channels, groups, EPS)?,
            qkv: reader.linear(&qkv, [channels; 2])?,
            out: reader.linear(&[format!("{name}.to_out.0")], [channels; 2])?,
        })
    }

    pub(super) fn forward(&self, tape: &Tape<'_>, x: &Var) -> Result<Var> {
        let input = self.norm.of(x, false)?;
        let qkv = convolution(tape, x, &self.qkv, &Convolution { input: Some(&input), ..Convolution::PLAIN })?; // [1, h, w, 3c]
        let kind = Attention { axis: AttentionAxis::Joint, num_heads: 1, heads: 0..1, rope: None };
        let y = attention(tape, &qkv, &kind)?; // [1, h, w, c]
        Ok(convolution(tape, &y, &self.out, &Convolution { residual: Some(x), ..Convolution::PLAIN })?)
    }
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
        layers.push(Layer::Attention(FrameAttention::read(reader, &format!("{name}.attentions.0"), channels, sizes.groups)?));
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
