//! Benchmarks of the autoencoders of the published sizes.

use candle_core::{DType, Device, Tensor};
use latte_model::layers::ParameterSpec;
use latte_model::noise::TorchRng;
use latte_model::vae::{Autoencoder, AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig, TemporalDecoderConfig, Tiling};
use latte_model::weights::TensorSource;
use latte_ops::Precision;

use super::{Case, DOWNSAMPLE, Mode, Work};
use crate::failure::bad_input;

/// Stable Diffusion's autoencoder, which processes one frame after the other.
pub(super) fn frame_by_frame(
    device: &Device,
    mode: Mode,
    frames: Option<usize>,
    size: Option<[usize; 2]>,
    tile: Option<usize>,
    precision: Precision,
) -> anyhow::Result<Case> {
    let size = checked(size)?;
    let config = KlConfig::stable_diffusion();
    let tiling = tile.map(Tiling::new).transpose()?;
    let weights = Fresh(AutoencoderKl::tensors(&config)?);
    let mut vae = AutoencoderKl::new_on(device, config, &weights, precision)?;
    if let Some(tiling) = tiling {
        vae = vae.with_tiling(tiling);
    }
    Coder::case(mode, frames.unwrap_or(1), size, Box::new(vae))
}

/// Stable Video Diffusion's autoencoder, whose decoder processes all frames together.
pub(super) fn temporal(
    device: &Device,
    mode: Mode,
    frames: Option<usize>,
    size: Option<[usize; 2]>,
    precision: Precision,
) -> anyhow::Result<Case> {
    let size = checked(size)?;
    let config = TemporalDecoderConfig::stable_video_diffusion();
    let weights = Fresh(AutoencoderKlTemporalDecoder::tensors(&config)?);
    let vae = AutoencoderKlTemporalDecoder::new_on(device, config, &weights, precision)?;
    Coder::case(mode, frames.unwrap_or(16), size, Box::new(vae))
}

/// Checks height and width in pixels.
fn checked(size: Option<[usize; 2]>) -> anyhow::Result<[usize; 2]> {
    match size.unwrap_or([256; 2]) {
        size if size.iter().all(|&side| side > 0 && side.is_multiple_of(DOWNSAMPLE)) => Ok(size),
        [height, width] => Err(bad_input(format!("--size {height}x{width}: expected multiples of {DOWNSAMPLE}"))),
    }
}

/// An autoencoder and its input.
struct Coder {
    mode: Mode,
    vae: Box<dyn Autoencoder>,
    /// Pixels to encode, or latents to decode, `[1, f, c, h, w]`.
    x: Tensor,
}

impl Coder {
    fn case(mode: Mode, frames: usize, [height, width]: [usize; 2], vae: Box<dyn Autoencoder>) -> anyhow::Result<Case> {
        let [f, c, h, w] =
            if mode == Mode::Encode { [frames, 3, height, width] } else { vae.space().latent_shape(frames, height, width)? };
        let x = TorchRng::new(0).randn((1, f, c, h, w))?;
        Ok(Case { mode, frames, size: [height, width], work: Box::new(Self { mode, vae, x }) })
    }
}

impl Work for Coder {
    fn once(&mut self) -> anyhow::Result<()> {
        match self.mode {
            Mode::Encode => self.vae.encode(&self.x, &mut TorchRng::new(0))?,
            _ => self.vae.decode(&self.x)?,
        };
        Ok(())
    }
}

/// Random weights with these names and shapes, created when they are read, so that they take no more memory than those in a file.
/// Their variance keeps the scale of activations.
struct Fresh(Vec<ParameterSpec>);

impl TensorSource for Fresh {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|spec| spec.name.clone()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.iter().find(|spec| spec.name == name).map(|spec| spec.shape.clone())
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> latte_model::weights::Result<Tensor> {
        let shape = self.shape(name).unwrap_or_default();
        let (count, rows) = (shape.iter().product::<usize>(), shape.first().copied().unwrap_or(1));
        if shape.len() < 2 {
            let values = if name.ends_with("weight") { Tensor::ones } else { Tensor::zeros };
            return Ok(values(shape, dtype, device)?);
        }
        let bound = (3.0 * rows as f64 / count as f64).sqrt() as f32; // of a variance of 1 / inputs
        let seed = self.0.iter().position(|known| known.name == name).unwrap_or_default();
        let values = TorchRng::new(seed as u64).rand_f32(count).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect();
        Ok(Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
    }
}
