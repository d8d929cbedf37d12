//! The autoencoder of Stable Video Diffusion: its encoder reads single frames, its decoder all frames of a clip.

use std::fmt;
use std::path::Path;

use candle_core::{Device, Tensor};
use latte_ops::{GroupNorm, GroupSums, Precision, Tape, Var, convolution_over_frames};

use super::config::{Sizes, TEMPORAL_GROUPS, TemporalDecoderConfig};
use super::convolution::{Conv, Norm, Pass};
use super::layers::{FrameAttention, Layer, Resnet, encoder, out, whole};
use super::reader::{Reader, in_folder};
use super::{Autoencoder, DiagonalGaussian, LatentSpace, frames};
use crate::finite::expect_finite;
use crate::layers::ParameterSpec;
use crate::weights::TensorSource;
use crate::{Error, Result};

/// The `AutoencoderKLTemporalDecoder` of diffusers, for inference.
///
/// All frames of a clip are decoded together. Norms across frames have statistics of the whole clip, so decoding in chunks gives
/// another clip, with or without overlap: colours and details change at every border of chunks. (The official pipeline decodes 14
/// frames at a time; the last two of its 16 frames are decoded without the others and their statistics.) The memory is that of two
/// tensors of the clip at the highest level and of four frames in progress: with Stable Video Diffusion's sizes 0.27 GB for each
/// frame of 512 × 512 pixels, 4.8 GB for 16. [`with_chunks`](Self::with_chunks) limits it for long clips. `tests/vae_memory.rs`
/// checks these figures.
pub struct AutoencoderKlTemporalDecoder {
    config: TemporalDecoderConfig,
    space: LatentSpace,
    sizes: Sizes,
    encoder: Vec<Layer>,
    decoder: Vec<ClipLayer>,
    chunk: Option<usize>,
    precision: Precision,
    device: Device,
}

/// A layer between the latents of a clip and its pixels.
enum ClipLayer {
    /// Frame by frame.
    Frame(Layer),
    Resnet(Box<ClipResnet>),
    /// A convolution over frames only.
    OverFrames(Conv),
}

/// A residual block within frames, and one across frames whose result is mixed in.
struct ClipResnet {
    /// Each frame is doubled first; the doubled clip is never in memory as a whole.
    up: Option<Layer>,
    spatial: Resnet,
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    /// The second convolution times the share m of the block across frames: with the result x within frames, `(1 − m)·x + m·(x +
    /// conv2(…))`.
    conv2: Conv,
}

/// The ε of norms across frames.
const TEMPORAL_EPS: f64 = 1e-5;
/// The number of frames that are computed at a time while others can be freed.
const FRAMES: usize = 4;

impl AutoencoderKlTemporalDecoder {
    /// Opens a diffusers folder (`config.json` and weights).
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or those of [`Self::new`].
    pub fn open(folder: &Path, precision: Precision) -> Result<Self> {
        Self::open_on(&Device::Cpu, folder, precision)
    }

    /// [`open`](Self::open) on `device`: clips are moved to it, and results are moved back.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), or if the device fails.
    pub fn open_on(device: &Device, folder: &Path, precision: Precision) -> Result<Self> {
        in_folder(folder, |config, files| Self::new_on(device, TemporalDecoderConfig::from_json(config)?, files, precision))
    }

    /// Reads the weights from `source`, under the names of diffusers.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible, or tensors are missing, unknown or have other shapes: the error lists them.
    pub fn new(config: TemporalDecoderConfig, source: &dyn TensorSource, precision: Precision) -> Result<Self> {
        Self::new_on(&Device::Cpu, config, source, precision)
    }

    /// [`new`](Self::new) on `device`.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), or if the device fails.
    pub fn new_on(
        device: &Device,
        config: TemporalDecoderConfig,
        source: &dyn TensorSource,
        precision: Precision,
    ) -> Result<Self> {
        let (sizes, space) = (config.sizes()?, config.latent_space()?);
        let ((encoder, decoder), _) =
            Reader::build(source, precision, device, sizes.levels.len(), |reader| layers(reader, &sizes))?;
        Ok(Self { config, space, sizes, encoder, decoder, chunk: None, precision, device: device.clone() })
    }

    /// All tensors of an autoencoder with this configuration, sorted by name.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn tensors(config: &TemporalDecoderConfig) -> Result<Vec<ParameterSpec>> {
        let sizes = config.sizes()?;
        let (_, table) = Reader::names(|reader| layers(reader, &sizes))?;
        Ok(table.specs().to_vec())
    }

    /// Decodes at most `frames` frames together, as diffusers does with its `decode_chunk_size`. Chunks are independent of each
    /// other.
    ///
    /// # Errors
    ///
    /// If `frames` is 0.
    pub fn with_chunks(mut self, frames: usize) -> Result<Self> {
        if frames == 0 {
            return Err(Error::config("decode_chunk_size", "expected at least 1 frame, got 0"));
        }
        self.chunk = Some(frames);
        Ok(self)
    }

    /// The configuration.
    pub fn config(&self) -> &TemporalDecoderConfig {
        &self.config
    }

    /// The encoder's output for each frame: means, then logarithms of variances, not scaled.
    ///
    /// # Shapes
    ///
    /// `pixels` `[n, 3, h, w]` in `[-1, 1]`; gives `[n, 2c, h/s, w/s]`.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or a side is no multiple of the downsample factor `s`.
    pub fn moments(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = frames::check("pixels", pixels, self.sizes.in_channels, self.sizes.downsample_factor())?;
        let (here, tape) = (pixels.device(), self.tape());
        let frame = |index| {
            let frame = tape.constant(frames::channels_last(&pixels, index)?.to_device(&self.device)?);
            Ok(whole(&tape, Pass::PREPARED, &self.encoder, frame)?.to_host()?.to_device(here)?)
        };
        frames::channels_first(&(0..pixels.dims()[0]).map(frame).collect::<Result<Vec<_>>>()?)
    }

    /// The distribution of the latents of each frame, not scaled.
    ///
    /// # Errors
    ///
    /// Those of [`moments`](Self::moments).
    pub fn posterior(&self, pixels: &Tensor) -> Result<DiagonalGaussian> {
        DiagonalGaussian::new(&self.moments(pixels)?)
    }

    /// Decodes the latents of one clip to pixels, without undoing the scale.
    ///
    /// # Shapes
    ///
    /// `latent` `[f, c, h, w]`; gives `[f, 3, h·s, w·s]`.
    ///
    /// # Errors
    ///
    /// If the shape does not fit.
    pub fn decode_unscaled(&self, latent: &Tensor) -> Result<Tensor> {
        let (here, latent) = (latent.device(), frames::check("latent", latent, self.sizes.latent, 1)?.to_device(&self.device)?);
        let (f, tape) = (latent.dims()[0], self.tape());
        let chunk = self.chunk.unwrap_or(f);
        let mut decoded = Vec::with_capacity(f);
        for start in (0..f).step_by(chunk) {
            let frame = |i| Ok(tape.constant(frames::channels_last(&latent, i)?));
            let clip = (start..f.min(start + chunk)).map(frame).collect::<Result<Vec<_>>>()?;
            for frame in self.decoder.iter().try_fold(clip, |clip, layer| layer.forward(&tape, clip))? {
                decoded.push(frame.to_host()?.to_device(here)?);
            }
        }
        frames::channels_first(&decoded)
    }

    fn tape(&self) -> Tape<'_> {
        Tape::inference().with_precision(self.precision)
    }
}

impl ClipLayer {
    /// Takes the frames by value, so that each is freed once its successor exists.
    fn forward<'w>(&'w self, tape: &Tape<'w>, clip: Vec<Var>) -> Result<Vec<Var>> {
        match self {
            Self::Frame(layer) => {
                clip.into_iter().map(|frame| whole(tape, Pass::PREPARED, std::slice::from_ref(layer), frame)).collect()
            }
            Self::Resnet(resnet) => resnet.forward(tape, clip),
            Self::OverFrames(layer) => Ok(convolution_over_frames(tape, &clip, 0..clip.len(), layer.ready()?, None, None)?),
        }
    }
}

impl ClipResnet {
    fn read(reader: &Reader<'_>, name: &str, [input, output]: [usize; 2], up: Option<Layer>) -> Result<Self> {
        let temporal = format!("{name}.temporal_res_block");
        // The share is stored as its logit.
        let share = 1.0 / (1.0 + (-reader.number(&format!("{name}.time_mixer.mix_factor"))?).exp());
        Ok(Self {
            up,
            spatial: Resnet::read(reader, &format!("{name}.spatial_res_block"), [input, output], TEMPORAL_GROUPS)?,
            norm1: reader.norm(&format!("{temporal}.norm1"), output, TEMPORAL_GROUPS, TEMPORAL_EPS)?,
            conv1: reader.convolution(&format!("{temporal}.conv1"), [output; 2], &[3, 1, 1])?,
            norm2: reader.norm(&format!("{temporal}.norm2"), output, TEMPORAL_GROUPS, TEMPORAL_EPS)?,
            conv2: reader.scaled_convolution(&format!("{temporal}.conv2"), [output; 2], &[3, 1, 1], share)?,
        })
    }

    fn forward<'w>(&'w self, tape: &Tape<'w>, clip: Vec<Var>) -> Result<Vec<Var>> {
        let spatial = |frame: Var| {
            let frame = match &self.up {
                Some(up) => whole(tape, Pass::PREPARED, std::slice::from_ref(up), frame)?,
                None => frame,
            };
            self.spatial.of_frame(tape, Pass::PREPARED, frame)
        };
        let mut clip = clip.into_iter().map(spatial).collect::<Result<Vec<_>>>()?;
        let (norm1, norm2) = (self.norm1.ready()?, self.norm2.ready()?);
        let input = norm1.normalisation(&sums(norm1, &clip)?, true)?;
        let h = convolution_over_frames(tape, &clip, 0..clip.len(), self.conv1.ready()?, Some(&input), None)?;
        let input = norm2.normalisation(&sums(norm2, &h)?, true)?;
        for start in (0..clip.len()).step_by(FRAMES) {
            let frames = start..(start + FRAMES).min(clip.len());
            let residual = &clip[frames.clone()];
            let mixed = convolution_over_frames(tape, &h, frames.clone(), self.conv2.ready()?, Some(&input), Some(residual))?;
            clip.splice(frames, mixed);
        }
        Ok(clip)
    }
}

/// Sums over all frames together.
fn sums(norm: &GroupNorm, clip: &[Var]) -> Result<GroupSums> {
    let parts = clip.iter().map(|frame| norm.sums(frame)).collect::<latte_ops::Result<Vec<_>>>()?;
    Ok(GroupSums::merge(&parts)?)
}

fn layers(reader: &Reader<'_>, sizes: &Sizes) -> Result<(Vec<Layer>, Vec<ClipLayer>)> {
    Ok((encoder(reader, sizes, true)?, decoder(reader, sizes)?))
}

/// The layers from the latents of a clip to its pixels.
fn decoder(reader: &Reader<'_>, sizes: &Sizes) -> Result<Vec<ClipLayer>> {
    let resnet = |name: &str, channels, up| -> Result<ClipLayer> {
        Ok(ClipLayer::Resnet(Box::new(ClipResnet::read(reader, name, channels, up)?)))
    };
    let mut channels = sizes.levels[sizes.levels.len() - 1];
    let conv_in = reader.convolution("decoder.conv_in", [sizes.latent, channels], &[3, 3])?;
    let mut layers = vec![ClipLayer::Frame(Layer::Convolution(conv_in))];
    // The reference pairs the resnets after the first with the only attention and drops the rest: with one layer the attention is
    // never used, and of more than two resnets only the first two are. Files hold the others anyway.
    let mut attention = Some(FrameAttention::read(reader, "decoder.mid_block.attentions.0", channels, sizes.groups)?);
    for index in 0..sizes.layers {
        let block = resnet(&format!("decoder.mid_block.resnets.{index}"), [channels; 2], None)?;
        if index == 1 {
            layers.extend(attention.take().map(|attention| ClipLayer::Frame(Layer::Attention(Box::new(attention)))));
        }
        if index < 2 {
            layers.push(block);
        }
    }
    let mut up = None;
    for (level, &out) in sizes.levels.iter().rev().enumerate() {
        let name = format!("decoder.up_blocks.{level}");
        for index in 0..=sizes.layers {
            layers.push(resnet(&format!("{name}.resnets.{index}"), [channels, out], up.take())?);
            channels = out;
        }
        if level + 1 < sizes.levels.len() {
            up = Some(Layer::Up(reader.convolution(&format!("{name}.upsamplers.0.conv"), [out; 2], &[3, 3])?));
        }
    }
    layers.push(ClipLayer::Frame(out(reader, "decoder", [channels, sizes.out_channels], sizes.groups)?));
    let over_frames = reader.convolution("decoder.time_conv_out", [sizes.out_channels; 2], &[3, 1, 1])?;
    layers.push(ClipLayer::OverFrames(over_frames));
    Ok(layers)
}

impl Autoencoder for AutoencoderKlTemporalDecoder {
    fn space(&self) -> &LatentSpace {
        &self.space
    }

    fn clip_moments(&self, pixels: &Tensor) -> Result<Tensor> {
        frames::clip_moments(pixels, |pixels| self.moments(pixels))
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        expect_finite(latent, || "the latents to be decoded".into())?;
        let latent = self.space.unscaled(latent)?;
        let clip = |index| self.decode_unscaled(&latent.get(index)?);
        let pixels = Tensor::stack(&(0..latent.dims()[0]).map(clip).collect::<Result<Vec<_>>>()?, 0)?;
        expect_finite(&pixels, || "what the temporal decoder makes of the latents".into())?;
        Ok(pixels)
    }
}

impl fmt::Debug for AutoencoderKlTemporalDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AutoencoderKlTemporalDecoder");
        debug.field("config", &self.config).field("chunk", &self.chunk).finish_non_exhaustive()
    }
}
