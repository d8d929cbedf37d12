//! The result of a finished training: the autoencoder as a diffusers folder, and its measurements.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use latte_model::vae::{AutoencoderKl, DiagonalGaussian};
use latte_model::weights::{FileKind, RawTensor, StoredDtype, write_atomically, write_weights};
use latte_ops::{Parameters, Precision};

use super::config::VaeTrainConfig;
use super::frames::Measured;
use crate::data::source::VideoSource;
use crate::error::{Error, Result};

/// The measurements of a trained autoencoder, and its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct VaeReport {
    /// The diffusers folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    pub folder: PathBuf,
    /// The peak signal-to-noise ratio in dB, over all values of all frames together, of frames reconstructed from the means of
    /// their latents, clamped to the range of pixels.
    pub psnr: f64,
    /// The number of frames of that measurement.
    pub num_frames: usize,
    /// Whether these frames were held out from training.
    pub held_out: bool,
    /// Mean and standard deviation of each channel of the unscaled latents of the training data, sampled from their distribution.
    pub channels: Vec<[f64; 2]>,
    /// The factor of latents for diffusion: 1 / their standard deviation over all channels.
    pub scaling_factor: f64,
}

/// Measures the autoencoder with these weights and writes it to `folder`.
pub(super) fn export(folder: &Path, config: &VaeTrainConfig, weights: &Parameters, measured: &Measured) -> Result<VaeReport> {
    let autoencoder = AutoencoderKl::new(config.autoencoder.unscaled()?, weights, Precision::F32)?;
    let channels = channels(&autoencoder, measured, config)?;
    let scaling_factor = rounded(1.0 / overall(&channels));
    if !(scaling_factor.is_finite() && scaling_factor > 0.0) {
        return Err(Error::checkpoint(
            folder,
            format!("the latents of the data cannot be scaled: means and deviations {channels:?}"),
        ));
    }
    let held_out = measured.held_out.is_some();
    let (psnr, num_frames) = psnr(&autoencoder, measured, config)?;
    write_folder(folder, config, weights, scaling_factor)?;
    Ok(VaeReport { folder: folder.to_path_buf(), psnr, num_frames, held_out, channels, scaling_factor })
}

/// Mean and standard deviation of each channel of the latents of the training data.
fn channels(autoencoder: &AutoencoderKl, measured: &Measured, config: &VaeTrainConfig) -> Result<Vec<[f64; 2]>> {
    let mut sums = vec![[0.0; 2]; config.autoencoder.latent_channels];
    let mut count = 0;
    for frames in measured.clips(&measured.training) {
        let gaussian: DiagonalGaussian = autoencoder.posterior(&frames?)?;
        let (mean, std) = (gaussian.mode().to_dtype(DType::F64)?, gaussian.std()?.to_dtype(DType::F64)?); // [n, c, h, w]
        let squares = (mean.sqr()? + std.sqr()?)?;
        let by_channel = |x: &Tensor| -> Result<Vec<f64>> { Ok(x.sum(3)?.sum(2)?.sum(0)?.to_vec1()?) };
        for (sums, (mean, square)) in sums.iter_mut().zip(by_channel(&mean)?.into_iter().zip(by_channel(&squares)?)) {
            *sums = [sums[0] + mean, sums[1] + square];
        }
        count += mean.elem_count() / config.autoencoder.latent_channels;
    }
    if count == 0 {
        return Err(Error::data(&config.data.path, "no video of the training data gives a clip any more"));
    }
    let moments = |[sum, squares]: [f64; 2]| {
        let mean = sum / count as f64;
        [mean, (squares / count as f64 - mean * mean).max(0.0).sqrt()]
    };
    Ok(sums.into_iter().map(moments).collect())
}

/// The standard deviation over all channels: the deviation within them and between their means.
fn overall(channels: &[[f64; 2]]) -> f64 {
    let count = channels.len() as f64;
    let mean = channels.iter().map(|[mean, _]| mean).sum::<f64>() / count;
    let variance = channels.iter().map(|[m, std]| std * std + (m - mean) * (m - mean)).sum::<f64>() / count;
    variance.sqrt()
}

/// Six digits: more are not significant, and every JSON reader restores six exactly.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// The PSNR on held-out data, or else on the training data, and the number of frames.
fn psnr(autoencoder: &AutoencoderKl, measured: &Measured, config: &VaeTrainConfig) -> Result<(f64, usize)> {
    let source: &VideoSource = measured.held_out.as_ref().unwrap_or(&measured.training);
    let (mut sum, mut values, mut count) = (0.0, 0, 0);
    for frames in measured.clips(source) {
        let frames = frames?;
        let back = autoencoder.decode_unscaled(autoencoder.posterior(&frames)?.mode())?.clamp(-1f32, 1f32)?;
        sum += (back - &frames)?.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        values += frames.elem_count();
        count += frames.dim(0)?;
    }
    if count == 0 {
        return Err(Error::data(&config.data.path, "no video to measure on gives a clip; set another `validation.fraction`"));
    }
    // Pixels lie in [-1, 1]: the peak is 2.
    Ok((10.0 * (4.0 * values as f64 / sum).log10(), count))
}

/// Weights first: a folder with a `config.json` is complete.
fn write_folder(folder: &Path, config: &VaeTrainConfig, weights: &Parameters, scaling_factor: f64) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let names: Vec<&str> = weights.iter().map(|(name, _)| name).collect();
    // The metadata of PyTorch, which some readers require.
    let kind = FileKind::Safetensors { metadata: BTreeMap::from([("format".to_string(), "pt".to_string())]) };
    let read = |name: &str| -> latte_model::weights::Result<RawTensor<'static>> {
        let tensor = weights.get(name)?.to_host()?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(RawTensor { dtype: StoredDtype::F32, shape: tensor.dims().to_vec(), bytes: bytes.into() })
    };
    write_weights(&folder.join("diffusion_pytorch_model.safetensors"), &kind, &names, &read)?;
    let json = config.autoencoder.to_json(config.data.size.height_width(), scaling_factor);
    Ok(write_atomically(&folder.join("config.json"), format!("{json:#}\n").as_bytes())?)
}
