//! Samples from the averaged weights, to watch the progress of a run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latte::{ClassModelConfig, GeneratedClip, SamplingParams, contact_sheet_of};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Precision};
use latte_progress::Stage;
use latte_video::encode::{Mp4Options, write_gif, write_mp4};

use super::events::{EncodedImage, RunEvents};
use super::sample_batch::SampleBatch;
use super::{Hook, Weights};
use crate::config::{SamplesConfig, TrainConfig};
use crate::engine::progress::TrainingProgress;
use crate::error::{Error, Result};

/// Frames with a shorter side are enlarged by an integer factor, so that they can be seen.
const MIN_SIDE: usize = 64;
/// The prefix of the names of unfinished folders.
const UNFINISHED: &str = ".unfinished-";
const FINISHED: &str = "step_";
const CONTACT_SHEET: &str = "contact_sheet.png";

/// Generates samples from the averaged weights.
pub(crate) struct Samples {
    metadata: CheckpointMetadata,
    /// `None` if the run makes no samples.
    autoencoder: Option<Arc<dyn Autoencoder>>,
    precision: Precision,
    config: SamplesConfig,
    /// `<run>/samples`.
    folder: PathBuf,
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Samples {
    /// The samples for `[samples]`, after a check that they can be generated. If the run has opened its autoencoder already,
    /// samples share it.
    pub(crate) fn new(
        config: &TrainConfig,
        metadata: &CheckpointMetadata,
        opened: Option<&Arc<dyn Autoencoder>>,
    ) -> Result<Self> {
        let opened = || opened.map_or_else(|| config.autoencoder.open(), |opened| Ok(Arc::clone(opened)));
        let samples = Self {
            metadata: metadata.clone(),
            autoencoder: (config.samples.every > 0).then(opened).transpose()?,
            precision: config.train.precision,
            config: config.samples.clone(),
            folder: config.output.run.join("samples"),
        };
        if let Some(autoencoder) = &samples.autoencoder {
            let model = ClassModelConfig::new(metadata, Arc::clone(autoencoder));
            let batch = samples.batch();
            model.check(&batch.requests[0].params, batch.first_class()).map_err(|e| match e {
                latte::Error::Config { key, problem } => Error::config("configuration", format!("samples.{key}"), problem),
                other => other.into(),
            })?;
        }
        Ok(samples)
    }

    /// Writes the samples into `folder`, and their images into the event file.
    fn write(
        step: u64,
        clips: &[GeneratedClip],
        folder: &Path,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut pictures = Vec::new();
        let mut coarse = 0;
        for made in clips {
            match write_mp4(folder.join(format!("{}.mp4", made.name)), &made.clip, &Mp4Options::default()) {
                Ok(quantiser) => coarse += usize::from(quantiser.is_some()),
                // The gif shows the same clip.
                Err(e) => progress.warning(&format!("step {step}: a sample has no mp4: {e}")),
            }
            let path = folder.join(format!("{}.gif", made.name));
            write_gif(&path, &made.clip)?;
            pictures.push((format!("samples/{}", made.name), path, [made.clip.width(), made.clip.height()]));
        }
        if coarse > 0 {
            let what = "noise needs more bits than the encoder may use at its usual quality";
            progress.note(&format!("step {step}: {coarse} of {} mp4 files are compressed more: {what}", clips.len()));
        }
        let sheet = contact_sheet_of(clips)?;
        let path = folder.join(CONTACT_SHEET);
        sheet.write_png(&path)?;
        pictures.insert(0, ("samples/contact_sheet".into(), path, [sheet.width, sheet.height]));
        for (tag, path, [width, height]) in pictures {
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            let image = EncodedImage { bytes: &bytes, width, height };
            events.write(step, progress, |events| events.image(&tag, image, step));
        }
        Ok(())
    }

    fn batch(&self) -> SampleBatch {
        let SamplesConfig { sampler, steps, guidance, num, seed, .. } = self.config;
        let params = SamplingParams { sampler, steps, guidance, precision: self.precision, ..SamplingParams::default() };
        let enlarge = MIN_SIDE.div_ceil(self.metadata.frame_size.into_iter().min().unwrap_or(MIN_SIDE).max(1));
        SampleBatch::new(&self.metadata, &params, num as u64, seed, enlarge)
    }
}

impl Hook for Samples {
    fn begin(&mut self, step: u64) -> Result<Vec<String>> {
        Ok(forget_after(&self.folder, step))
    }

    fn run(
        &mut self,
        weights: Weights<'_>,
        stop: &CancelToken,
        events: &mut RunEvents,
        progress: &mut dyn TrainingProgress,
    ) -> Result<bool> {
        let Weights { ema, step, .. } = weights;
        let folder = self.folder.join(format!("{FINISHED}{step:07}"));
        let Some(autoencoder) = &self.autoencoder else { return Ok(true) };
        if step == 0 || !step.is_multiple_of(self.config.every) || folder.exists() {
            return Ok(true);
        }
        let batch = self.batch();
        let Some(clips) = batch.make(&self.metadata, autoencoder, ema, stop, Stage::Samples, progress)? else { return Ok(false) };
        let temporary = self.folder.join(format!("{UNFINISHED}{step:07}"));
        let written = Self::write(step, &clips, &temporary, events, progress);
        if let Err(e) = written.and_then(|()| fs::rename(&temporary, &folder).map_err(Error::io(&folder))) {
            // It may not exist.
            let _ = fs::remove_dir_all(&temporary);
            return Err(e);
        }
        progress.samples(step, &folder);
        Ok(true)
    }

    fn what_is_missing(&self) -> &'static str {
        "samples could not be made"
    }
}

/// Removes from `folder` the samples of steps after `step`, which the run repeats, and unfinished ones. Returns a message for each
/// that cannot be removed.
fn forget_after(folder: &Path, step: u64) -> Vec<String> {
    let problem = |path: &Path, e: std::io::Error| {
        format!("{}: samples of steps that the run repeats could not be removed: {e}", path.display())
    };
    if !folder.exists() {
        return Vec::new();
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => return vec![problem(folder, e)],
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
