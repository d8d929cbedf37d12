//! Benchmark of the text-to-video transformer of the published size.

use candle_core::{Device, Tensor};
use latte_model::model::t2v::{LatteT2v, T2vConfig, T2vInput, TextContext};
use latte_model::noise::TorchRng;
use latte_model::text::MAX_LENGTH;
use latte_ops::{PackedWeightCache, Parameters, Precision, Tape};

use super::{Case, DOWNSAMPLE, Mode, Work};

/// A forward pass of a clip of `frames` frames (default 16).
pub(super) fn case(device: &Device, mode: Mode, frames: Option<usize>, precision: Precision) -> anyhow::Result<Case> {
    let config = T2vConfig::latte_1();
    let (frames, size) = (frames.unwrap_or(config.video_length), [config.sample_size * DOWNSAMPLE; 2]);
    Ok(Case { mode, frames, size, work: Box::new(TextToVideo::new(device, config, frames, precision)?) })
}

/// The network with one clip to denoise. As in sampling, weights are packed once, and the text is processed once.
#[derive(Debug)]
struct TextToVideo {
    model: LatteT2v,
    parameters: Parameters,
    precision: Precision,
    packed: PackedWeightCache,
    text: TextContext,
    x: Tensor,
}

impl TextToVideo {
    fn new(device: &Device, config: T2vConfig, frames: usize, precision: Precision) -> anyhow::Result<Self> {
        let mut rng = TorchRng::new(0);
        let text = rng.randn((1, MAX_LENGTH, config.caption_channels))?.to_device(device)?; // [1, l, caption_channels]
        let x = rng.randn((1, frames, config.in_channels, config.sample_size, config.sample_size))?.to_device(device)?; // [1, f, c, h, w]
        let model = LatteT2v::new(config)?;
        let (parameters, packed) = (model.init(&mut rng)?.to_device(device)?, PackedWeightCache::new());
        let tape = Tape::inference().with_precision(precision).with_packed_weight_cache(&packed);
        let text = model.context(&tape, &parameters, &text, None)?;
        Ok(Self { model, parameters, precision, packed, text, x })
    }
}

impl Work for TextToVideo {
    fn once(&mut self) -> anyhow::Result<()> {
        let tape = Tape::inference().with_precision(self.precision).with_packed_weight_cache(&self.packed);
        let input = T2vInput { x: &self.x, timesteps: &[500.0], text: &self.text, temporal: true };
        self.model.forward(&tape, &self.parameters, &input)?;
        Ok(())
    }
}
