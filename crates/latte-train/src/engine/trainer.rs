//! The training run, from top to bottom: the same loop for every task.

use std::path::{Path, PathBuf};
use std::time::Instant;

use latte_model::checkpoint::CheckpointFolder;
use latte_model::noise::TorchRng;
use latte_ops::CancelToken;

use super::checkpoint::{self, RunState};
use super::checkpoint_folder::remove_unfinished;
use super::gradients::StepGradients;
use super::pace::Pace;
use super::progress::{StepEvent, TrainingProgress};
use super::resume::{Start, newest_checkpoint, resume};
use super::schedule::LrSchedule;
use super::state::TrainState;
use super::task::{Prepared, Task};
use crate::config::RunConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::{Loader, Position};
use crate::error::{Error, Result};
use crate::hooks::events::RunEvents;
use crate::hooks::{Hook, Weights};
use crate::run::record::{RunLog, StepRecord};
use crate::run::status::{Phase, RunLock, RunStatus, now};

/// The streams of the run's generator; the loader forks stream 2 of the same seed.
const INIT_STREAM: u64 = 0;
const STEP_STREAM: u64 = 1;

/// Why [`Trainer::run`] returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// All steps are done.
    Finished {
        /// The last checkpoint.
        checkpoint: PathBuf,
        /// The task's report.
        report: R,
    },
    /// `stop` was cancelled; the current step was finished and saved.
    Stopped {
        /// Optimiser steps done.
        step: u64,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
}

/// A training run of the task `T`.
#[derive(Debug)]
pub struct Trainer<T: Task> {
    task: T,
    data: DatasetFingerprint,
    schedule: LrSchedule,
    state: TrainState,
    rng: TorchRng,
    loader: Loader,
    log: RunLog<StepRecord>,
    hooks: Vec<Box<dyn Hook>>,
    events: RunEvents,
    checkpoints: CheckpointFolder,
    /// The newest checkpoint on disk: its step and folder.
    saved: Option<(u64, PathBuf)>,
    resumed_from: Option<PathBuf>,
    /// Reported as warnings when the run starts.
    warnings: Vec<String>,
    /// Reported when the run starts: how the initial weights were loaded, or which settings differ from the checkpoint.
    notes: Vec<String>,
    /// Keeps other processes from training in the run folder.
    _lock: RunLock,
}

impl<T: Task> Trainer<T> {
    /// Opens the run folder, and initialises the weights or loads them from its newest checkpoint.
    ///
    /// # Errors
    ///
    /// If the data, the run folder and the configuration do not fit together; each names what to change.
    pub fn open(prepared: Prepared<T>, start: Start) -> Result<Self> {
        let Prepared { mut task, source, data, device, mut warnings } = prepared;
        let run = task.config().output().run.clone();
        let checkpoints = CheckpointFolder::of_run(&run);
        let newest = newest_checkpoint(&checkpoints, &run, start)?;
        let root = TorchRng::new(task.config().seed());
        let (state, rng, position, notes) = match &newest {
            Some(path) => {
                let resumed = resume(&checkpoints, path, &mut task, &data, &mut warnings)?;
                (resumed.state, resumed.rng, resumed.position, resumed.changes)
            }
            None => {
                let (weights, notes) = task.init(&mut root.fork(INIT_STREAM))?;
                (TrainState::new(&weights, &task.trainable())?, root.fork(STEP_STREAM), Position::default(), notes)
            }
        };
        let mut hooks = task.hooks()?;

        std::fs::create_dir_all(&run).map_err(Error::io(&run))?;
        let lock = RunLock::take(&run)?;
        remove_unfinished(&checkpoints)?;
        for hook in &mut hooks {
            warnings.extend(hook.begin(state.step)?);
        }
        let mut log = RunLog::new(run.join("metrics.jsonl"));
        log.begin(state.step)?;
        let config = task.config();
        let events = RunEvents::new(config.output().tensorboard.then_some(run.as_path()), state.step + 1);
        let loader = Loader::new(source, config.seed(), position, config.data().loader_threads, config.data().prefetch)?;
        Ok(Self {
            schedule: config.optimizer().schedule(config.max_steps()),
            saved: newest.clone().map(|path| (state.step, path)),
            resumed_from: newest,
            state: if device.is_cpu() { state } else { state.to_device(&device)? },
            task,
            data,
            rng,
            loader,
            log,
            hooks,
            events,
            checkpoints,
            warnings,
            notes,
            _lock: lock,
        })
    }

    /// The task.
    pub fn task(&self) -> &T {
        &self.task
    }

    /// The configuration, as it is saved beside checkpoints.
    pub fn config(&self) -> &T::Config {
        self.task.config()
    }

    /// The checkpoint that this run resumes from.
    pub fn resumed_from(&self) -> Option<&Path> {
        self.resumed_from.as_deref()
    }

    /// The current weights, their average and the moments.
    pub fn state(&self) -> &TrainState {
        &self.state
    }

    /// How many values training changes.
    pub fn num_trainable(&self) -> usize {
        self.state.first_moments.iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// How many videos are trained on.
    pub fn num_videos(&self) -> usize {
        self.data.num_videos
    }

    /// Trains until all steps are done, or until `stop` is cancelled: then the current step is finished and saved.
    ///
    /// Hooks run after the checkpoint of their step. A failure of a hook or of an event file is a warning and does not end the run. When a
    /// run resumes, the hooks first do what they did not do for the newest checkpoint.
    ///
    /// # Errors
    ///
    /// If the loss is not finite, no video can be read, or the disk fails. Checkpoints on disk are not changed.
    pub fn run(&mut self, stop: &CancelToken, progress: &mut dyn TrainingProgress) -> Result<Outcome<T::Report>> {
        let run = self.config().output().run.clone();
        let status = RunStatus::begins(self.state.step, self.config().max_steps());
        status.write(&run)?;
        let outcome = self.run_steps(stop, progress);
        status.write_end(&run, self.state.step, outcome, |outcome| match outcome {
            Outcome::Finished { .. } => Phase::Finished,
            Outcome::Stopped { .. } => Phase::Stopped,
        })
    }

    /// [`run`](Self::run) without writing the status of its end.
    fn run_steps(&mut self, stop: &CancelToken, progress: &mut dyn TrainingProgress) -> Result<Outcome<T::Report>> {
        for line in self.notes.drain(..) {
            progress.note(&line);
        }
        for warning in self.warnings.drain(..) {
            progress.warning(&warning);
        }
        let (max_steps, checkpoint_every) = (self.config().max_steps(), self.config().output().checkpoint_every);
        let started = Instant::now();
        let first = self.state.step;
        let mut pace = Pace::default();
        // What the last process did not do after its checkpoint.
        let mut all_made = self.run_hooks(stop, progress);
        while self.state.step < max_steps {
            let record = self.step(progress)?;
            self.log.append(&record)?;
            let done = self.state.step;
            let event = StepEvent::new(record, max_steps, first, started);
            progress.step(&event);
            pace.warn(&event, done - first, started.elapsed(), progress);
            self.events.write(done, progress, |events| events.scalars(&event.record.scalars(), done, event.record.time));
            if stop.is_cancelled() && done < max_steps {
                let checkpoint = self.save(progress)?;
                return Ok(Outcome::Stopped { step: done, checkpoint });
            }
            if done.is_multiple_of(checkpoint_every) || done == max_steps {
                self.save(progress)?;
            }
            all_made = self.run_hooks(stop, progress);
            if stop.is_cancelled() && done < max_steps {
                let checkpoint = self.save(progress)?;
                return Ok(Outcome::Stopped { step: done, checkpoint });
            }
        }
        let (step, checkpoint) = (self.state.step, self.save(progress)?);
        if !all_made {
            return Ok(Outcome::Stopped { step, checkpoint });
        }
        Ok(Outcome::Finished { checkpoint, report: self.task.finish(&self.state.ema)? })
    }

    /// Runs the hooks that are due. A failure is a warning. Returns false if `stop` ended a hook early.
    fn run_hooks(&mut self, stop: &CancelToken, progress: &mut dyn TrainingProgress) -> bool {
        let step = self.state.step;
        let now = Weights { ema: &self.state.ema, step, max_steps: self.task.config().max_steps() };
        let mut all_made = true;
        for hook in &mut self.hooks {
            match hook.run(now, stop, &mut self.events, progress) {
                Ok(made) => all_made &= made,
                Err(e) => {
                    let what = hook.what_is_missing();
                    progress.warning(&format!("step {step}: {what}, and the run continues without it: {e}"));
                }
            }
        }
        all_made
    }

    /// One optimiser step: load, draw, step.
    fn step(&mut self, progress: &mut dyn TrainingProgress) -> Result<StepRecord> {
        let started = Instant::now();
        let clips = self.loader.next_clips(self.task.clips_per_step(), &mut |message| progress.warning(message))?;
        let num_clips = clips.len();
        let batch = self.task.draw(clips, &mut self.rng)?;
        let step = self.state.step + 1;
        let lr = self.schedule.at(step);
        let found = self.task.gradients(&self.state.weights, &batch)?;
        self.state.take_step(&found, self.task.config().optimizer(), lr).map_err(|e| match e {
            Error::Diverged { step, what, .. } => {
                Error::Diverged { step, what, checkpoint: self.saved.as_ref().map(|(_, path)| path.clone()) }
            }
            other => other,
        })?;
        self.task.learn(&batch, &found)?;
        let StepGradients { loss, parts, grad_norm, .. } = found;
        let seconds = started.elapsed().as_secs_f64();
        let (steps_per_s, clips_per_s) = (1.0 / seconds, num_clips as f64 / seconds);
        Ok(StepRecord { step, loss, parts, grad_norm, lr, steps_per_s, clips_per_s, time: now() })
    }

    /// Writes a checkpoint of the present step, unless it is on disk already.
    fn save(&mut self, progress: &mut dyn TrainingProgress) -> Result<PathBuf> {
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
            timesteps: self.task.timesteps().cloned(),
            data: self.data.clone(),
        };
        self.log.sync()?;
        for e in self.hooks.iter().filter_map(|hook| hook.sync().err()) {
            progress.warning(&format!("step {step}: a log may not be on disk: {e}"));
        }
        self.events.write(step, progress, |events| events.sync());
        let path = checkpoint::save(&self.checkpoints, &self.state, &run, self.task.config(), self.task.descriptions(step)?)?;
        self.saved = Some((step, path.clone()));
        progress.checkpoint(step, &path);
        Ok(path)
    }
}
