//! The loss on held-out data.
//!
//! Every validation of a run uses the same clips, timesteps and noise, so that only the weights change the result. Nothing here
//! draws from the run's generator.

use candle_core::{DType, Tensor};
use latte_model::diffusion::{Diffusion, TimestepSpacing};
use latte_model::model::{Input, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_ops::{CancelToken, PackedWeightCache, Parameters, Precision, Tape};
use latte_progress::Stage;

use super::events::RunEvents;
use super::{Hook, Weights};
use crate::config::{TrainConfig, ValidationConfig};
use crate::data::latent_draw::LatentDraw;
use crate::data::loader::ClipSource;
use crate::engine::progress::TrainingProgress;
use crate::error::{Error, Result};
use crate::run::record::{RunLog, ValidationRecord};
use crate::run::status::now;

/// The streams of the validation's seed, for each clip's window, latent and noise.
const WINDOW_STREAM: u64 = 0;
const LATENT_STREAM: u64 = 1;
const NOISE_STREAM: u64 = 2;

/// Measures the loss of a network on the same clips each time.
pub(crate) struct Validation {
    config: ValidationConfig,
    model: Latte,
    diffusion: Diffusion,
    timesteps: Vec<usize>,
    source: Box<dyn ClipSource>,
    latents_of: LatentDraw,
    batch_size: usize,
    precision: Precision,
    /// Loaded when they are first used.
    clips: Option<Vec<(Tensor, Option<u32>)>>,
    log: RunLog<ValidationRecord>,
}

impl std::fmt::Debug for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validation").field("config", &self.config).field("timesteps", &self.timesteps).finish_non_exhaustive()
    }
}

impl Validation {
    /// The validation of the network `model` for `[validation]`, on clips of `source`, in the order of its files.
    pub(crate) fn new(
        config: &TrainConfig,
        validation: &ValidationConfig,
        model: &LatteConfig,
        source: Box<dyn ClipSource>,
        latents_of: LatentDraw,
    ) -> Result<Self> {
        Ok(Self {
            diffusion: Diffusion::new(&config.diffusion, &TimestepSpacing::All)?,
            timesteps: middles(validation.timesteps, config.diffusion.num_timesteps),
            config: validation.clone(),
            source,
            latents_of,
            batch_size: config.train.batch_size,
            precision: config.train.precision,
            clips: None,
            model: Latte::new(model.clone())?,
            log: RunLog::new(config.output.run.join("validation.jsonl")),
        })
    }

    /// Measures the loss with `weights`, after optimiser step `step`.
    fn measure(&mut self, weights: &Parameters, step: u64, progress: &mut dyn TrainingProgress) -> Result<ValidationRecord> {
        let clips = match self.clips.take() {
            Some(clips) => clips,
            None => self.load(progress)?,
        };
        let rng = TorchRng::new(self.config.seed).fork(NOISE_STREAM);
        let cases: Vec<(usize, usize)> =
            (0..clips.len()).flat_map(|clip| (0..self.timesteps.len()).map(move |bin| (clip, bin))).collect();
        let packed = PackedWeightCache::new();
        let (mut loss, mut mse, mut vb) = (Mean::default(), Mean::default(), Mean::default());
        for (number, batch) in cases.chunks(self.batch_size).enumerate() {
            progress.stage(Stage::Validation, (number * self.batch_size) as u64, cases.len() as u64);
            let latents: Vec<&Tensor> = batch.iter().map(|&(clip, _)| &clips[clip].0).collect();
            let latents = Tensor::cat(&latents, 0)?; // [b, f, c, h, w]
            // A clip's noise does not depend on its batch.
            let noise = batch.iter().map(|&(clip, bin)| rng.fork(clip as u64).fork(bin as u64).randn(clips[clip].0.shape()));
            let noise = Tensor::cat(&noise.collect::<latte_model::Result<Vec<_>>>()?, 0)?; // [b, f, c, h, w]
            let steps: Vec<usize> = batch.iter().map(|&(_, bin)| self.timesteps[bin]).collect();
            let x_t = self.diffusion.q_sample(&latents, &steps, &noise)?; // [b, f, c, h, w]
            let labels: Option<Vec<u32>> = batch.iter().map(|&(clip, _)| clips[clip].1).collect();
            let times: Vec<f64> = steps.iter().map(|&t| t as f64).collect();
            let tape = Tape::inference().with_precision(self.precision).with_packed_weight_cache(&packed);
            let input = Input { labels: labels.as_deref(), ..Input::new(&x_t, &times) };
            let prediction = self.model.forward(&tape, weights, &input)?; // [b, f, c or 2c, h, w]
            let terms = self.diffusion.loss(&prediction.to_host()?, &latents, &noise, &x_t, &steps)?;
            loss.add(Some(&terms.loss))?;
            mse.add(terms.mse.as_ref())?;
            vb.add(terms.vb.as_ref())?;
        }
        progress.stage(Stage::Validation, cases.len() as u64, cases.len() as u64);
        self.clips = Some(clips);
        let loss = loss.value().unwrap_or(f64::NAN);
        Ok(ValidationRecord { step, loss, mse: mse.value(), vb: vb.value(), time: now() })
    }

    /// Loads the clips: one per file, in order, starting over if there are too few files. Unreadable files are skipped.
    fn load(&self, progress: &mut dyn TrainingProgress) -> Result<Vec<(Tensor, Option<u32>)>> {
        let root = TorchRng::new(self.config.seed);
        let files = self.source.num_files();
        let mut clips = Vec::with_capacity(self.config.clips);
        let (mut number, mut failures) = (0, 0);
        while clips.len() < self.config.clips {
            let stream = number as u64;
            match self.source.load(number % files.max(1), &mut root.fork(WINDOW_STREAM).fork(stream)) {
                Ok(clip) => {
                    failures = 0;
                    let label = clip.label;
                    clips.push((self.latents_of.draw(clip.frames, &mut root.fork(LATENT_STREAM).fork(stream))?, label));
                }
                Err(message) => {
                    failures += 1;
                    if failures >= files {
                        let what = format!("none of the {files} videos for validation gives a clip; the last one: {message}");
                        return Err(Error::data("validation", what));
                    }
                    // Only in the first round: later ones have the same messages.
                    if number < files {
                        progress.warning(&message);
                    }
                }
            }
            number += 1;
        }
        Ok(clips)
    }
}

impl Hook for Validation {
    fn begin(&mut self, step: u64) -> Result<Vec<String>> {
        self.log.begin(step)?;
        Ok(Vec::new())
    }

    fn run(
        &mut self,
        weights: Weights<'_>,
        _stop: &CancelToken,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<bool> {
        let Weights { ema, step, max_steps } = weights;
        let is_due = step > 0 && (step.is_multiple_of(self.config.every) || step == max_steps);
        if !is_due || self.log.last_step() == Some(step) {
            return Ok(true);
        }
        let record = self.measure(ema, step, progress)?;
        if !record.loss.is_finite() {
            return Err(Error::data("validation", format!("the loss is {}", record.loss)));
        }
        self.log.append(&record)?;
        let mut scalars = vec![("validation/loss", record.loss)];
        scalars.extend(record.mse.map(|mse| ("validation/mse", mse)));
        scalars.extend(record.vb.map(|vb| ("validation/vb", vb)));
        events.write(step, progress, |events| events.scalars(&scalars, step, record.time));
        progress.validation(&record);
        Ok(true)
    }

    fn what_is_missing(&self) -> &'static str {
        "the validation loss could not be measured"
    }

    fn sync(&self) -> Result<()> {
        self.log.sync()
    }
}

/// The centres of `count` equal parts of 0 ‥ `num_timesteps`.
fn middles(count: usize, num_timesteps: usize) -> Vec<usize> {
    (0..count).map(|i| (2 * i + 1) * num_timesteps / (2 * count)).collect()
}

/// A mean, summed in f64.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Adds the values of `[b]`, if there are any.
    fn add(&mut self, values: Option<&Tensor>) -> Result<()> {
        let Some(values) = values else { return Ok(()) };
        let values: Vec<f64> = values.to_dtype(DType::F64)?.to_vec1()?;
        self.sum += values.iter().sum::<f64>();
        self.count += values.len();
        Ok(())
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timesteps_are_the_middles_of_equal_parts() {
        assert_eq!(middles(8, 1000), [62, 187, 312, 437, 562, 687, 812, 937]);
        assert_eq!(middles(1, 1000), [500]);
        assert_eq!(middles(4, 4), [0, 1, 2, 3]);
    }
}
