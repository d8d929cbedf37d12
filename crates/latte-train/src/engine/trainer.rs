//! The training run, from top to bottom.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use candle_core::{Device, Tensor};
use latte_model::checkpoint::{CheckpointFolder, CheckpointMetadata, FORMAT};
use latte_model::diffusion::TimestepSampler;
use latte_model::model::Latte;
use latte_model::noise::TorchRng;
use latte_model::weights::Pretrained;
use latte_ops::{CancelToken, Parameters};

use crate::config::{ConditionKind, InitConfig, TrainConfig};
use crate::data::loader::{LoadedClip, Loader, Position};
use crate::data::source::{OpenedData, expect_a_clip, open_data};
use crate::engine::checkpoint::{self, DatasetFingerprint, RunState};
use crate::engine::checkpoint_folder::remove_unfinished;
use crate::engine::lr::LrSchedule;
use crate::engine::observer::{Observer, StepEvent};
use crate::engine::pace::Pace;
use crate::engine::resume::{Resumed, Start, newest_checkpoint, resume};
use crate::engine::state::TrainState;
use crate::error::{Error, Result};
use crate::hooks::evaluation::{Evaluation, Evaluator};
use crate::hooks::samples::RunReporter;
use crate::hooks::validation::Validation;
use crate::run::record::{RunLog, StepRecord, ValidationRecord};
use crate::run::status::{Phase, RunLock, RunStatus};
use crate::tasks::class::noising::{Clips, DrawRules, LatentDraw, draw};
use crate::tasks::class::step::{MicroBatch, StepGradients, Stepper};

/// The streams of the run's generator; the loader forks stream 2 of the same seed.
pub(crate) const INIT_STREAM: u64 = 0;
pub(crate) const STEP_STREAM: u64 = 1;

/// Why [`Trainer::run`] returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
    /// `stop` was set; the step under way was finished and saved.
    Stopped {
        /// Optimiser steps done.
        step: u64,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}

/// A training run.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    metadata: CheckpointMetadata,
    data: DatasetFingerprint,
    latents_of: LatentDraw,
    stepper: Stepper,
    schedule: LrSchedule,
    state: TrainState,
    rng: TorchRng,
    timesteps: TimestepSampler,
    loader: Loader,
    log: RunLog<StepRecord>,
    validation: Option<(Validation, RunLog<ValidationRecord>)>,
    evaluation: Option<Evaluation>,
    reporter: RunReporter,
    checkpoints: CheckpointFolder,
    /// The newest checkpoint on disk: its step and folder.
    saved: Option<(u64, PathBuf)>,
    resumed_from: Option<PathBuf>,
    /// Warnings for the observer when the run starts.
    warnings: Vec<String>,
    /// The observer gets these lines too: how the initial weights were loaded, or which settings differ from the checkpoint.
    notes: Vec<String>,
    /// No other process trains in the run folder while this one does.
    _lock: RunLock,
}

impl Trainer {
    /// Looks at the data and the run folder, and makes or loads the model.
    ///
    /// # Errors
    ///
    /// If the data, the run folder and the configuration do not fit together; each names what to change.
    pub fn open(mut config: TrainConfig, start: Start) -> Result<Self> {
        let OpenedData { source, held_out, space, vae, autoencoder, classes, fps, mark: data, notes: mut warnings } =
            open_data(&config)?;
        let model = config.resolve_model(classes.len())?;
        if config.model.condition == ConditionKind::Class {
            config.model.num_classes = Some(classes.len());
        }
        let latents_of = LatentDraw::new(space, config.autoencoder.posterior, model.input_size);
        let validation = match (&config.validation, held_out) {
            (Some(of), Some(held_out)) => {
                expect_a_clip(held_out.as_ref())?;
                Some(Validation::new(&config, of, held_out, latents_of.clone())?)
            }
            _ => None,
        };
        let metadata = CheckpointMetadata {
            format: FORMAT,
            model: model.clone(),
            diffusion: config.diffusion.clone(),
            autoencoder: config.autoencoder.clone(),
            vae,
            classes,
            frame_size: config.data.size.height_width(),
            num_frames: config.data.num_frames,
            fps,
            step: 0,
            ema: false,
        };

        let checkpoints = CheckpointFolder::of_run(&config.output.run);
        let newest = newest_checkpoint(&checkpoints, &config.output.run, start)?;
        let stepper = Stepper {
            model: Latte::new(model.clone())?,
            diffusion: config.diffusion()?,
            optimizer: config.optimizer.clone(),
            activation_checkpointing: config.train.activation_checkpointing,
            precision: config.train.precision,
        };
        let trainable: Vec<String> =
            stepper.model.parameters().iter().filter(|p| p.is_trainable()).map(|p| p.name.clone()).collect();
        let root = TorchRng::new(config.train.seed);
        let mut notes = Vec::new();
        let (state, rng, timesteps, position) = if let Some(path) = &newest {
            let resumed = resume(&checkpoints, path, &config, &metadata, &stepper.model, &data)?;
            warnings.extend(resumed.warnings);
            notes.extend(resumed.changes);
            let Resumed { state, rng, timesteps, position, .. } = resumed;
            (state, rng, timesteps, position)
        } else {
            let mut weights = stepper.model.init(&mut root.fork(INIT_STREAM))?;
            if let Some(init) = &config.init {
                notes = inherit(init, &stepper.model, &mut weights)?;
            }
            let state = TrainState::new(&weights, &trainable)?;
            let timesteps = TimestepSampler::new(config.train.timestep_sampler, config.diffusion.num_timesteps);
            (state, root.fork(STEP_STREAM), timesteps, Position::default())
        };

        let reporter = RunReporter::new(&config, &metadata, autoencoder, state.step)?;

        let run = &config.output.run;
        std::fs::create_dir_all(run).map_err(Error::io(run))?;
        let lock = RunLock::take(run)?;
        remove_unfinished(&checkpoints)?;
        warnings.extend(reporter.forget_after(state.step));
        let log = RunLog::open(&run.join("metrics.jsonl"), state.step)?;
        let validation = match validation {
            Some(validation) => Some((validation, RunLog::open(&run.join("validation.jsonl"), state.step)?)),
            None => None,
        };
        let loader = Loader::new(source, config.train.seed, position, config.data.loader_threads, config.data.prefetch)?;
        Ok(Self {
            latents_of,
            schedule: config.optimizer.schedule(config.train.max_steps),
            saved: newest.clone().map(|path| (state.step, path)),
            resumed_from: newest,
            metadata,
            data,
            stepper,
            state,
            rng,
            timesteps,
            loader,
            log,
            validation,
            evaluation: None,
            reporter,
            checkpoints,
            warnings,
            notes,
            _lock: lock,
            config,
        })
    }

    /// The run with an evaluator of clips, where `[evaluation]` asks for one.
    ///
    /// # Errors
    ///
    /// If such clips cannot be made, or the log of scores cannot be read.
    pub fn with_evaluator(mut self, evaluator: Box<dyn Evaluator>) -> Result<Self> {
        if let Some(of) = self.config.evaluation.clone() {
            self.evaluation = Some(Evaluation::new(&self.config, &of, &self.metadata, evaluator, self.state.step)?);
        }
        Ok(self)
    }

    /// The run with its steps, validation and samples on `device`. Videos are decoded, frames encoded and samples decoded on the
    /// CPU all the same.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        self.state = self.state.to_device(device)?;
        Ok(self)
    }

    /// The checkpoint that this run resumes from.
    pub fn resumed_from(&self) -> Option<&Path> {
        self.resumed_from.as_deref()
    }

    /// The configuration, as it is saved beside checkpoints.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model and what it is trained on.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.metadata
    }

    /// Weights, average and moments as they are now.
    pub fn state(&self) -> &TrainState {
        &self.state
    }

    /// How many values training changes.
    pub fn num_trainable(&self) -> usize {
        self.state.first_moments.iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// How many videos the data has.
    pub fn num_videos(&self) -> usize {
        self.data.num_videos
    }

    /// Trains until `max_steps`, or until `stop` is set: then the step under way is finished and saved.
    ///
    /// Validation, samples and scores of a step come after its checkpoint. They and event files end no run: where they fail, the
    /// observer is warned. Those that are missing for the newest checkpoint are made up for when the run resumes.
    ///
    /// # Errors
    ///
    /// If the loss is no longer a number, no video can be read, or the disk fails. Checkpoints on disk stay as they are.
    pub fn run(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> Result<Outcome> {
        let run = self.config.output.run.clone();
        let status = RunStatus::begins(self.state.step, self.config.train.max_steps);
        status.write(&run)?;
        let outcome = self.run_steps(stop, observer);
        status.write_end(&run, self.state.step, outcome, |outcome| match outcome {
            Outcome::Finished { .. } => Phase::Finished,
            Outcome::Stopped { .. } => Phase::Stopped,
        })
    }

    /// [`run`](Self::run) without the word about how it ended.
    fn run_steps(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> Result<Outcome> {
        if self.config.evaluation.is_some() && self.evaluation.is_none() {
            return Err(Error::config("configuration", "evaluation", "set, but this program has no evaluator; leave it out"));
        }
        for line in self.notes.drain(..) {
            observer.note(&line);
        }
        for warning in self.warnings.drain(..) {
            observer.warning(&warning);
        }
        let max_steps = self.config.train.max_steps;
        let started = Instant::now();
        let first = self.state.step;
        let mut pace = Pace::default();
        // What the last process did not come to.
        let mut all_made = self.look(stop, observer);
        while self.state.step < max_steps {
            let record = self.step(observer)?;
            self.log.append(&record)?;
            let done = self.state.step;
            let event = StepEvent::new(record, max_steps, first, started);
            observer.step(&event);
            pace.warn(&event, done - first, started.elapsed(), observer);
            self.reporter.step(&event.record, observer);
            if stop.is_cancelled() && done < max_steps {
                let checkpoint = self.save(observer)?;
                return Ok(Outcome::Stopped { step: done, checkpoint });
            }
            if done.is_multiple_of(self.config.output.checkpoint_every) || done == max_steps {
                self.save(observer)?;
            }
            all_made = self.look(stop, observer);
            if stop.is_cancelled() && done < max_steps {
                let checkpoint = self.save(observer)?;
                return Ok(Outcome::Stopped { step: done, checkpoint });
            }
        }
        let (step, checkpoint) = (self.state.step, self.save(observer)?);
        Ok(if all_made { Outcome::Finished { checkpoint } } else { Outcome::Stopped { step, checkpoint } })
    }

    /// What is to be seen of the present weights and is due: the loss on data that is not trained on, samples, scores. A failure is
    /// a warning. Returns false where `stop` left something unmade.
    fn look(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> bool {
        let step = self.state.step;
        let warn = |what: &str, e: &Error, observer: &mut dyn Observer| {
            observer.warning(&format!("step {step}: {what}, and the run continues without it: {e}"));
        };
        if let Err(e) = self.validate(observer) {
            warn("the loss on validation data is not there", &e, observer);
        }
        let sampled = self.reporter.samples(step, &self.state.ema, stop, observer).unwrap_or_else(|e| {
            warn("samples could not be made", &e, observer);
            true
        });
        let evaluated = self.evaluate(stop, observer).unwrap_or_else(|e| {
            warn("clips could not be evaluated", &e, observer);
            true
        });
        sampled && evaluated
    }

    /// One optimiser step: load, draw, step.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<StepRecord> {
        let started = Instant::now();
        let batches = self.next_batches(observer)?;
        let step = self.state.step + 1;
        let lr = self.schedule.at(step);
        let found = self.stepper.step(&mut self.state, &batches, lr).map_err(|e| match e {
            Error::Diverged { step, what, .. } => {
                Error::Diverged { step, what, checkpoint: self.saved.as_ref().map(|(_, path)| path.clone()) }
            }
            other => other,
        })?;
        let StepGradients { loss, mse, vb, grad_norm, clip_losses, .. } = found;
        let times: Vec<usize> = batches.iter().flat_map(|batch| batch.timesteps.iter().copied()).collect();
        self.timesteps.update(&times, &clip_losses)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(StepRecord {
            step,
            loss,
            mse,
            vb,
            grad_norm,
            lr,
            steps_per_s: 1.0 / seconds,
            clips_per_s: times.len() as f64 / seconds,
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        })
    }

    /// Measures the loss on data that is not trained on, if that is due and not done.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (step, max_steps) = (self.state.step, self.config.train.max_steps);
        let Some((validation, log)) = &mut self.validation else { return Ok(()) };
        if step == 0 || !validation.is_due(step, max_steps) || log.last_step() == Some(step) {
            return Ok(());
        }
        let record = validation.measure(&self.stepper.model, &self.state.ema, step, observer)?;
        if !record.loss.is_finite() {
            return Err(Error::data("validation", format!("the loss is {}", record.loss)));
        }
        log.append(&record)?;
        self.reporter.validation(&record, observer);
        observer.validation(&record);
        Ok(())
    }

    /// Evaluates clips from the averaged weights, if that is due and not done; false where `stop` ended it early.
    fn evaluate(&mut self, stop: &CancelToken, observer: &mut dyn Observer) -> Result<bool> {
        let (step, max_steps) = (self.state.step, self.config.train.max_steps);
        let Some(evaluation) = self.evaluation.as_mut().filter(|evaluation| evaluation.is_due(step, max_steps)) else {
            return Ok(true);
        };
        let record = evaluation.evaluate(step, &self.state.ema, stop, observer)?;
        if let Some(record) = &record {
            self.reporter.evaluation(record, observer);
        }
        Ok(record.is_some())
    }

    /// The passes of one optimiser step: clips, as latents, with all that chance decides.
    fn next_batches(&mut self, observer: &mut dyn Observer) -> Result<Vec<MicroBatch>> {
        let train = &self.config.train;
        let clips = self
            .loader
            .next_clips(train.batch_size * train.gradient_accumulation_steps, &mut |message| observer.warning(message))?;
        let clips = self.latents(clips)?;
        let rules = DrawRules { batch_size: self.config.train.batch_size, offset_noise: self.config.train.offset_noise };
        draw(clips, rules, &self.metadata.model, &self.timesteps, &mut self.rng)
    }

    /// What the encoder says of the frames to latents, clip by clip: what is drawn comes in the order of the clips.
    fn latents(&mut self, clips: Vec<LoadedClip>) -> Result<Clips> {
        let num_images = self.config.data.joint_images;
        let labels: Option<Vec<u32>> = clips.iter().map(|clip| clip.label).collect();
        let image_labels = (num_images > 0 && labels.is_some())
            .then(|| clips.iter().flat_map(|clip| clip.image_labels.iter().copied()).collect());
        let mut latents = Vec::with_capacity(clips.len());
        for clip in clips {
            latents.push(self.latents_of.draw(clip.frames, &mut self.rng)?); // [1, f + images, c, h, w]
        }
        Ok(Clips { latents: Tensor::cat(&latents, 0)?, labels, num_images, image_labels }) // [clips, f + images, c, h, w]
    }

    /// Writes a checkpoint of the present step, unless it is on disk already.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        let step = self.state.step;
        if let Some((saved, path)) = &self.saved
            && *saved == step
        {
            return Ok(path.clone());
        }
        let run = RunState {
            format: RunState::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step,
            rng: self.rng.state(),
            position: self.loader.position(),
            timesteps: self.timesteps.clone(),
            data: self.data.clone(),
        };
        self.log.sync()?;
        let logs = [self.validation.as_ref().map(|(_, log)| log.sync()), self.evaluation.as_ref().map(Evaluation::sync)];
        for e in logs.into_iter().flatten().filter_map(Result::err) {
            observer.warning(&format!("step {step}: a log may not be on disk: {e}"));
        }
        self.reporter.sync(step, observer);
        let path = checkpoint::save(&self.checkpoints, &self.state, &run, &self.config, &self.metadata)?;
        self.saved = Some((step, path.clone()));
        observer.checkpoint(step, &path);
        Ok(path)
    }
}

/// Replaces fresh weights by those that `init` names, as far as they fit; reports which did.
fn inherit(init: &InitConfig, model: &Latte, weights: &mut Parameters) -> Result<Vec<String>> {
    let source = Pretrained::open(&init.path)?;
    let report = model.inherit(init.from.into(), &source, weights)?;
    let is_trainable = |name: &String| model.parameters().iter().any(|p| p.name == *name && p.is_trainable());
    if !report.used.iter().any(is_trainable) {
        let what = format!("none of its tensors fits the model, so there is nothing to start from; {report}");
        return Err(Error::checkpoint(&init.path, what));
    }
    let lines = report.lines().into_iter().map(|line| format!("{}: {line}", init.path.display()));
    Ok(source.note().into_iter().chain(lines).collect())
}
