//! The task of a small autoencoder (`AutoencoderKL`) on the frames of videos.
//!
//! The loss compares frames pixel by pixel and keeps latents small; it has no perceptual and no adversarial part. The result of a
//! finished run is a diffusers folder, on which diffusion models can be trained.

mod config;
mod export;
mod frames;
mod step;

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;
use latte_model::vae::KlNetwork;
use latte_ops::Parameters;

use crate::data::loader::{ClipSource, LoadedClip};
use crate::engine::gradients::StepGradients;
use crate::engine::saved::Saved;
use crate::engine::task::{Prepared, Task};
use crate::error::{Error, Result};
pub use config::{Reconstruction, VaeLoopConfig, VaeLossConfig, VaeModelConfig, VaeTrainConfig, VaeValidationConfig};
pub use export::VaeReport;
use frames::{Measured, OpenedFrames, open, stack};
pub use step::VaeStepper;

/// Opens the data of an autoencoder's run and builds its network.
///
/// # Errors
///
/// If the data and the configuration do not fit together; each error says what to change.
pub fn autoencoder(config: VaeTrainConfig) -> Result<Prepared<AutoencoderTask>> {
    let OpenedFrames { training, measured, mark: data, notes: warnings } = open(&config)?;
    let stepper = VaeStepper {
        network: KlNetwork::new(config.autoencoder.unscaled()?)?,
        loss: config.loss.clone(),
        activation_checkpointing: config.train.activation_checkpointing,
    };
    let task = AutoencoderTask { config, stepper, measured };
    Ok(Prepared { task, source: Box::new(training), data, device: Device::Cpu, warnings })
}

/// The training of an autoencoder.
#[derive(Debug)]
pub struct AutoencoderTask {
    config: VaeTrainConfig,
    stepper: VaeStepper,
    measured: Measured,
}

/// The frames of one optimiser step.
#[derive(Debug)]
pub struct FrameBatch {
    /// `[n, 3, h, w]` in `[-1, 1]`.
    frames: Tensor,
    /// The noise for sampling latents: standard normal, `[n, latent, h/s, w/s]`.
    noise: Tensor,
}

impl AutoencoderTask {
    /// The number of held-out videos.
    pub fn num_held_out(&self) -> usize {
        self.measured.held_out.as_ref().map_or(0, ClipSource::num_files)
    }
}

impl Task for AutoencoderTask {
    type Config = VaeTrainConfig;
    type Batch = FrameBatch;
    type Report = VaeReport;

    fn config(&self) -> &VaeTrainConfig {
        &self.config
    }

    fn clips_per_step(&self) -> usize {
        self.config.train.batch_size
    }

    fn trainable(&self) -> Vec<String> {
        self.stepper.network.parameters().iter().map(|spec| spec.name.clone()).collect()
    }

    fn init(&self, rng: &mut TorchRng) -> Result<(Parameters, Vec<String>)> {
        Ok((self.stepper.network.init(rng)?, Vec::new()))
    }

    fn draw(&self, clips: Vec<LoadedClip>, rng: &mut TorchRng) -> Result<FrameBatch> {
        let [height, width] = self.config.data.size.height_width();
        let frames = stack(clips, [height, width])?; // [n, 3, h, w]
        let factor = self.stepper.network.config().downsample_factor()?;
        let channels = self.config.autoencoder.latent_channels;
        let noise = rng.randn((frames.dim(0)?, channels, height / factor, width / factor))?;
        Ok(FrameBatch { frames, noise })
    }

    fn gradients(&self, weights: &Parameters, batch: &FrameBatch) -> Result<StepGradients> {
        self.stepper.gradients(weights, &batch.frames, &batch.noise)
    }

    fn resume(&mut self, saved: &Saved<'_, VaeTrainConfig>, warnings: &mut Vec<String>) -> Result<()> {
        let (old, config) = (&saved.checkpoint.config, &self.config);
        if old.autoencoder != config.autoencoder {
            return Err(saved.is_of_another("`autoencoder`"));
        }
        let drawn = |c: &VaeTrainConfig| (c.train.seed, c.train.batch_size, c.validation.fraction);
        if drawn(old) != drawn(config) {
            let what = "seed, batch size or held-out share differ from the checkpoint's";
            warnings.push(format!("{what}: the run resumes, but its results differ from those of an uninterrupted run"));
        }
        let check = self.stepper.network.check(&saved.checkpoint.state.weights);
        saved.readable(check.map_err(|what| Error::checkpoint(saved.path, what)))
    }

    fn finish(&self, ema: &Parameters) -> Result<VaeReport> {
        export::export(&self.config.output.run.join("vae"), &self.config, ema, &self.measured)
    }
}
