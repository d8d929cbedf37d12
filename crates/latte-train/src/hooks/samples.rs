//! The files that show how a run is doing: TensorBoard event files, and samples from the averaged weights.
//!
//! Nothing here changes the weights: a run with samples ends with the same bits as one without. And nothing here ends a run: what
//! cannot be generated or written is a warning.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latte::{ClassModelConfig, GeneratedClip, SamplingParams, contact_sheet_of};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Parameters, Precision};
use latte_video::encode::{Mp4Options, write_gif, write_mp4};

use crate::config::{SamplesConfig, TrainConfig};
use crate::engine::observer::Observer;
use crate::error::{Error, Result};
use crate::hooks::events::{EncodedImage, RunEvents};
use crate::hooks::sample_batch::SampleBatch;
use crate::run::record::{EvaluationRecord, StepRecord, ValidationRecord};

/// Frames with a shorter side are enlarged by a whole factor, so that they can be seen.
const MIN_SIDE: usize = 64;
/// What the names of unfinished folders begin with.
const UNFINISHED: &str = ".unfinished-";
const FINISHED: &str = "step_";
const CONTACT_SHEET: &str = "contact_sheet.png";

/// Writes a run's event files and samples.
pub(crate) struct RunReporter {
    metadata: CheckpointMetadata,
    /// Only if the run makes samples.
    autoencoder: Option<Arc<dyn Autoencoder>>,
    precision: Precision,
    samples: SamplesConfig,
    /// `<run>/samples`.
    folder: PathBuf,
    events: RunEvents,
}

impl fmt::Debug for RunReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunReporter").field("samples", &self.samples).field("events", &self.events).finish_non_exhaustive()
    }
}

impl RunReporter {
    /// Checks that the samples that `config` asks for can be made, of a run after `step` optimiser steps. Writes nothing yet. If the
    /// run has opened its autoencoder already, samples share it.
    pub(crate) fn new(
        config: &TrainConfig,
        metadata: &CheckpointMetadata,
        opened: Option<Arc<dyn Autoencoder>>,
        step: u64,
    ) -> Result<Self> {
        let run = &config.output.run;
        let reporter = Self {
            metadata: metadata.clone(),
            autoencoder: (config.samples.every > 0).then(|| opened.map_or_else(|| config.autoencoder.open(), Ok)).transpose()?,
            precision: config.train.precision,
            samples: config.samples.clone(),
            folder: run.join("samples"),
            events: RunEvents::new(config.output.tensorboard.then_some(run.as_path()), step + 1),
        };
        if let Some(autoencoder) = &reporter.autoencoder {
            let model = ClassModelConfig::new(metadata, Arc::clone(autoencoder));
            let batch = reporter.batch();
            model.check(&batch.requests[0].params, batch.first_class()).map_err(|e| match e {
                latte::Error::Config { key, problem } => Error::config("configuration", format!("samples.{key}"), problem),
                other => other.into(),
            })?;
        }
        Ok(reporter)
    }

    /// Removes samples of steps after `step`, which the run will do again, and unfinished ones. Returns a message for each that cannot
    /// be removed.
    pub(crate) fn forget_after(&self, step: u64) -> Vec<String> {
        let problem = |path: &Path, e: std::io::Error| {
            format!("{}: samples of steps that are done again could not be removed: {e}", path.display())
        };
        if !self.folder.exists() {
            return Vec::new();
        }
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) => return vec![problem(&self.folder, e)],
        };
        let mut problems = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let later = name.strip_prefix(FINISHED).and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|of| of > step);
            if path.is_dir() && (later || name.starts_with(UNFINISHED)) {
                problems.extend(fs::remove_dir_all(&path).err().map(|e| problem(&path, e)));
            }
        }
        problems
    }

    /// Writes the numbers of a step into the event file.
    pub(crate) fn step(&mut self, record: &StepRecord, observer: &mut dyn Observer) {
        let mut scalars = vec![("train/loss", record.loss)];
        scalars.extend(record.mse.map(|mse| ("train/mse", mse)));
        scalars.extend(record.vb.map(|vb| ("train/vb", vb)));
        scalars.extend([("train/grad_norm", record.grad_norm), ("train/lr", record.lr)]);
        scalars.extend([("speed/steps_per_s", record.steps_per_s), ("speed/clips_per_s", record.clips_per_s)]);
        self.events.write(record.step, observer, |events| events.scalars(&scalars, record.step, record.time));
    }

    /// Writes the loss on held-out data into the event file.
    pub(crate) fn validation(&mut self, record: &ValidationRecord, observer: &mut dyn Observer) {
        let mut scalars = vec![("validation/loss", record.loss)];
        scalars.extend(record.mse.map(|mse| ("validation/mse", mse)));
        scalars.extend(record.vb.map(|vb| ("validation/vb", vb)));
        self.events.write(record.step, observer, |events| events.scalars(&scalars, record.step, record.time));
    }

    /// Writes the scores of an evaluation into the event file.
    pub(crate) fn evaluation(&mut self, record: &EvaluationRecord, observer: &mut dyn Observer) {
        let tagged: Vec<(String, f64)> =
            record.scores.iter().map(|(name, value)| (format!("evaluation/{name}"), *value)).collect();
        let scalars: Vec<(&str, f64)> = tagged.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.write(record.step, observer, |events| events.scalars(&scalars, record.step, record.time));
    }

    /// Makes the samples of `step` if they are due and not there yet. Returns false if `stop` is set before they are complete: then
    /// none are written, and the run makes them when it resumes.
    ///
    /// # Errors
    ///
    /// If they cannot be made or written; then nothing is left of them.
    pub(crate) fn samples(
        &mut self,
        step: u64,
        ema: &Parameters,
        stop: &CancelToken,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let folder = self.folder.join(format!("{FINISHED}{step:07}"));
        let due = self.samples.every > 0 && step > 0 && step.is_multiple_of(self.samples.every);
        if !due || folder.exists() {
            return Ok(true);
        }
        let Some(clips) = self.make(step, ema, stop, observer)? else { return Ok(false) };
        let temporary = self.folder.join(format!("{UNFINISHED}{step:07}"));
        let written = self.write(step, &clips, &temporary, observer);
        if let Err(e) = written.and_then(|()| fs::rename(&temporary, &folder).map_err(Error::io(&folder))) {
            // It may not be there.
            let _ = fs::remove_dir_all(&temporary);
            return Err(e);
        }
        observer.samples(step, &folder);
        Ok(true)
    }

    /// Waits until the events are on disk.
    pub(crate) fn sync(&mut self, step: u64, observer: &mut dyn Observer) {
        self.events.write(step, observer, |events| events.sync());
    }

    fn make(
        &self,
        step: u64,
        ema: &Parameters,
        stop: &CancelToken,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<GeneratedClip>>> {
        let Some(autoencoder) = &self.autoencoder else { return Ok(None) };
        let mut on_step = |done, total| observer.sampling(step, done, total);
        self.batch().make(&self.metadata, autoencoder, ema, stop, &mut on_step)
    }

    /// Writes the samples into `folder`, and their pictures into the event file.
    fn write(&mut self, step: u64, clips: &[GeneratedClip], folder: &Path, observer: &mut dyn Observer) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut pictures = Vec::new();
        let mut coarse = 0;
        for made in clips {
            match write_mp4(folder.join(format!("{}.mp4", made.name)), &made.clip, &Mp4Options::default()) {
                Ok(quantiser) => coarse += usize::from(quantiser.is_some()),
                // The gif shows the same clip.
                Err(e) => observer.warning(&format!("step {step}: a sample has no mp4: {e}")),
            }
            let path = folder.join(format!("{}.gif", made.name));
            write_gif(&path, &made.clip)?;
            pictures.push((format!("samples/{}", made.name), path, [made.clip.width(), made.clip.height()]));
        }
        if coarse > 0 {
            let what = "noise takes more bits than the encoder has room for at its usual quality";
            observer.note(&format!("step {step}: {coarse} of {} mp4 files are compressed more: {what}", clips.len()));
        }
        let sheet = contact_sheet_of(clips)?;
        let path = folder.join(CONTACT_SHEET);
        sheet.write_png(&path)?;
        pictures.insert(0, ("samples/contact_sheet".into(), path, [sheet.width, sheet.height]));
        for (tag, path, [width, height]) in pictures {
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            let image = EncodedImage { bytes: &bytes, width, height };
            self.events.write(step, observer, |events| events.image(&tag, image, step));
        }
        Ok(())
    }

    fn batch(&self) -> SampleBatch {
        let SamplesConfig { sampler, steps, guidance, num, seed, .. } = self.samples;
        let params = SamplingParams { sampler, steps, guidance, precision: self.precision, ..SamplingParams::default() };
        let enlarge = MIN_SIDE.div_ceil(self.metadata.frame_size.into_iter().min().unwrap_or(MIN_SIDE).max(1));
        SampleBatch::new(&self.metadata, &params, num as u64, seed, enlarge)
    }
}
