//! The training run of an autoencoder, from top to bottom.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use latte_model::checkpoint::CheckpointFolder;
use latte_model::noise::TorchRng;
use latte_model::vae::KlNetwork;
use latte_ops::CancelToken;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, VaeRunState};
use super::config::VaeTrainConfig;
use super::export::{VaeReport, export};
use super::frames::{Measured, OpenedFrames, open, stack};
use super::step::{VaeGradients, VaeStepper};
use crate::data::loader::{ClipSource, Loader, Position};
use crate::engine::checkpoint::DatasetFingerprint;
use crate::engine::checkpoint_folder::remove_unfinished;
use crate::engine::lr::LrSchedule;
use crate::engine::observer::{Observer, StepEvent};
use crate::engine::pace::Pace;
use crate::engine::resume::Start;
use crate::engine::resume::{self, newest_checkpoint, position, whole};
use crate::engine::state::TrainState;
use crate::engine::trainer::{INIT_STREAM, STEP_STREAM};
use crate::error::{Error, Result};
use crate::hooks::events::RunEvents;
use crate::run::record::{Record, RunLog, StepRecord};
use crate::run::status::{Phase, RunLock, RunStatus, now};

/// What is known about one optimiser step; a line of `metrics.jsonl`. It has the keys of [`StepRecord`], so that what reads the
/// one reads the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaeStepRecord {
    /// The optimiser step, counted from 1.
    pub step: u64,
    /// What is minimised.
    pub loss: f64,
    /// Its first part: the mean difference between frames.
    pub reconstruction: f64,
    /// The divergence of a frame's latents from a standard normal distribution, in nats, not weighted.
    pub kl: f64,
    /// The L2 norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate of the step.
    pub lr: f64,
    /// Optimiser steps per second, over this step alone, loading included.
    pub steps_per_s: f64,
    /// Clips per second, over this step alone.
    pub clips_per_s: f64,
    /// When the step ended, in seconds since 1970.
    pub time: f64,
}

impl Record for VaeStepRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

impl VaeStepRecord {
    /// What a model's step would have recorded.
    fn as_step_record(&self) -> StepRecord {
        let &Self { step, loss, grad_norm, lr, steps_per_s, clips_per_s, time, .. } = self;
        StepRecord { step, loss, mse: None, vb: None, grad_norm, lr, steps_per_s, clips_per_s, time }
    }
}

/// Why [`VaeTrainer::run`] returned.
#[derive(Debug, Clone, PartialEq)]
pub enum VaeOutcome {
    /// All steps are done, and the autoencoder is written.
    Finished {
        /// The last checkpoint.
        checkpoint: PathBuf,
        /// What the averaged weights achieve.
        report: VaeReport,
    },
    /// `stop` was set; the step under way was finished and saved.
    Stopped {
        /// Optimiser steps done.
        step: u64,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}

/// A training run of an autoencoder.
#[derive(Debug)]
pub struct VaeTrainer {
    config: VaeTrainConfig,
    data: DatasetFingerprint,
    measured: Measured,
    stepper: VaeStepper,
    schedule: LrSchedule,
    state: TrainState,
    rng: TorchRng,
    loader: Loader,
    log: RunLog<VaeStepRecord>,
    events: RunEvents,
    checkpoints: CheckpointFolder,
    /// The newest checkpoint on disk: its step and folder.
    saved: Option<(u64, PathBuf)>,
    resumed_from: Option<PathBuf>,
    /// Warnings for the observer when the run starts.
    warnings: Vec<String>,
    /// For the observer too: settings that are no longer the checkpoint's.
    changes: Vec<String>,
    /// No other process trains in the run folder while this one does.
    _lock: RunLock,
}

impl VaeTrainer {
    /// Looks at the data and the run folder, and makes or loads the network.
    ///
    /// # Errors
    ///
    /// If the data, the run folder and the configuration do not fit together; each names what to change.
    pub fn open(config: VaeTrainConfig, start: Start) -> Result<Self> {
        let OpenedFrames { training, measured, mark: data, notes: mut warnings } = open(&config)?;
        let network = KlNetwork::new(config.autoencoder.unscaled()?)?;

        let checkpoints = CheckpointFolder::of_run(&config.output.run);
        let newest = newest_checkpoint(&checkpoints, &config.output.run, start)?;
        let root = TorchRng::new(config.train.seed);
        let mut changes = Vec::new();
        let (state, rng, position) = if let Some(path) = &newest {
            let (state, run, old) = whole(&checkpoints, path, checkpoint::load(path))?;
            changes = resume::changes(&old.to_toml()?, &config.to_toml()?);
            fits(path, &old, &config, &mut warnings)?;
            whole(&checkpoints, path, network.check(&state.weights).map_err(|what| Error::checkpoint(path, what)))?;
            (state, TorchRng::from_state(&run.rng)?, position(run.position, &run.data, &data, &mut warnings))
        } else {
            let weights = network.init(&mut root.fork(INIT_STREAM))?;
            let trainable: Vec<String> = network.parameters().iter().map(|spec| spec.name.clone()).collect();
            (TrainState::new(&weights, &trainable)?, root.fork(STEP_STREAM), Position::default())
        };

        let run = &config.output.run;
        std::fs::create_dir_all(run).map_err(Error::io(run))?;
        let lock = RunLock::take(run)?;
        remove_unfinished(&checkpoints)?;
        let log = RunLog::open(&run.join("metrics.jsonl"), state.step)?;
        let events = RunEvents::new(config.output.tensorboard.then_some(run.as_path()), state.step + 1);
        let loader =
            Loader::new(Box::new(training), config.train.seed, position, config.data.loader_threads, config.data.prefetch)?;
        Ok(Self {
            stepper: VaeStepper {
                network,
                loss: config.loss.clone(),
                optimizer: config.optimizer.clone(),
                activation_checkpointing: config.train.activation_checkpointing,
            },
            schedule: config.optimizer.schedule(config.train.max_steps),
            saved: newest.clone().map(|path| (state.step, path)),
            resumed_from: newest,
            data,
            measured,
            state,
            rng,
            loader,
            log,
            events,
            checkpoints,
            warnings,
            changes,
            _lock: lock,
            config,
        })
    }

    /// The checkpoint that this run resumes from.
    pub fn resumed_from(&self) -> Option<&Path> {
        self.resumed_from.as_deref()
    }

    /// The configuration, as it is saved beside checkpoints.
    pub fn config(&self) -> &VaeTrainConfig {
        &self.config
    }

    /// Weights, average and moments as they are now.
    pub fn state(&self) -> &TrainState {
        &self.state
    }

    /// How many values training changes.
    pub fn num_trainable(&self) -> usize {
        self.state.weights.iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// How many videos are trained on, and how many are held out.
    pub fn num_videos(&self) -> [usize; 2] {
        [self.data.num_videos, self.measured.held_out.as_ref().map_or(0, ClipSource::num_files)]
    }

    /// Trains until `max_steps`, measures, and writes the autoencoder to `vae` in the run folder; or until `stop` is set: then the
    /// step under way is finished and saved.
    ///
    /// # Errors
    ///
    /// If the loss is no longer a number, no video can be read, or the disk fails. Checkpoints on disk stay as they are.
    pub fn run(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> Result<VaeOutcome> {
        let run = self.config.output.run.clone();
        let status = RunStatus::begins(self.state.step, self.config.train.max_steps);
        status.write(&run)?;
        let outcome = self.run_steps(stop, observer);
        status.write_end(&run, self.state.step, outcome, |outcome| match outcome {
            VaeOutcome::Finished { .. } => Phase::Finished,
            VaeOutcome::Stopped { .. } => Phase::Stopped,
        })
    }

    /// [`run`](Self::run) without the word about how it ended.
    fn run_steps(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> Result<VaeOutcome> {
        for change in self.changes.drain(..) {
            observer.note(&change);
        }
        for warning in self.warnings.drain(..) {
            observer.warning(&warning);
        }
        let max_steps = self.config.train.max_steps;
        let started = Instant::now();
        let first = self.state.step;
        let mut pace = Pace::default();
        while self.state.step < max_steps {
            let record = self.step(observer)?;
            self.log.append(&record)?;
            self.show(&record, observer);
            let done = self.state.step;
            let event = StepEvent::new(record.as_step_record(), max_steps, first, started);
            observer.step(&event);
            pace.warn(&event, done - first, started.elapsed(), observer);
            if stop.is_cancelled() && done < max_steps {
                let checkpoint = self.save(observer)?;
                return Ok(VaeOutcome::Stopped { step: done, checkpoint });
            }
            if done.is_multiple_of(self.config.output.checkpoint_every) {
                self.save(observer)?;
            }
        }
        let checkpoint = self.save(observer)?;
        let report = export(&self.config.output.run.join("vae"), &self.config, &self.state.ema, &self.measured)?;
        Ok(VaeOutcome::Finished { checkpoint, report })
    }

    /// One optimiser step: load, draw, step.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<VaeStepRecord> {
        let started = Instant::now();
        let clips = self.loader.next_clips(self.config.train.batch_size, &mut |message| observer.warning(message))?;
        let num_clips = clips.len();
        let size = self.config.data.size.height_width();
        let frames = stack(clips, size)?; // [n, 3, h, w]
        let noise = self.noise(frames.dim(0)?, size)?;
        let step = self.state.step + 1;
        let lr = self.schedule.at(step);
        let found = self.stepper.step(&mut self.state, &frames, &noise, lr).map_err(|e| match e {
            Error::Diverged { step, what, .. } => {
                Error::Diverged { step, what, checkpoint: self.saved.as_ref().map(|(_, path)| path.clone()) }
            }
            other => other,
        })?;
        let VaeGradients { loss, reconstruction, kl, grad_norm, .. } = found;
        let seconds = started.elapsed().as_secs_f64();
        Ok(VaeStepRecord {
            step,
            loss,
            reconstruction,
            kl,
            grad_norm,
            lr,
            steps_per_s: 1.0 / seconds,
            clips_per_s: num_clips as f64 / seconds,
            time: now(),
        })
    }

    /// Writes a step's numbers into the event file.
    fn show(&mut self, record: &VaeStepRecord, observer: &mut dyn Observer) {
        let scalars = [
            ("train/loss", record.loss),
            ("train/reconstruction", record.reconstruction),
            ("train/kl", record.kl),
            ("train/grad_norm", record.grad_norm),
            ("train/lr", record.lr),
            ("speed/steps_per_s", record.steps_per_s),
            ("speed/clips_per_s", record.clips_per_s),
        ];
        self.events.write(record.step, observer, |events| events.scalars(&scalars, record.step, record.time));
    }

    /// What the latents of `count` frames are drawn with.
    fn noise(&mut self, count: usize, [height, width]: [usize; 2]) -> Result<Tensor> {
        let factor = self.stepper.network.config().downsample_factor()?;
        let channels = self.config.autoencoder.latent_channels;
        Ok(self.rng.randn((count, channels, height / factor, width / factor))?)
    }

    /// Writes a checkpoint of the present step, unless it is on disk already.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        let step = self.state.step;
        if let Some((saved, path)) = &self.saved
            && *saved == step
        {
            return Ok(path.clone());
        }
        let run = VaeRunState {
            format: VaeRunState::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step,
            rng: self.rng.state(),
            position: self.loader.position(),
            data: self.data.clone(),
        };
        self.log.sync()?;
        self.events.write(step, observer, |events| events.sync());
        let path = checkpoint::save(&self.checkpoints, &self.state, &run, &self.config)?;
        self.saved = Some((step, path.clone()));
        observer.checkpoint(step, &path);
        Ok(path)
    }
}

/// Whether the checkpoint at `path`, of a run of the configuration `old`, fits `config`.
fn fits(path: &Path, old: &VaeTrainConfig, config: &VaeTrainConfig, warnings: &mut Vec<String>) -> Result<()> {
    if old.autoencoder != config.autoencoder {
        let what = "`autoencoder` is another one than this configuration's; put it back, or set another `output.run`";
        return Err(Error::checkpoint(path, what));
    }
    let chance = |c: &VaeTrainConfig| (c.train.seed, c.train.batch_size, c.validation.fraction);
    if chance(old) != chance(config) {
        warnings.push(
            "seed, batch size or held-out share differ from the checkpoint's: the run resumes, but not as it would have continued".into(),
        );
    }
    Ok(())
}
