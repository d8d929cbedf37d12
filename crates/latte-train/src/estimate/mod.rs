//! What a run would cost, before it is begun: memory, time, disk. Everything is measured on this machine, on as much of the run as
//! there is time for; nothing is written.

mod clips;
mod network;

use std::sync::Arc;
use std::time::Duration;

use latte_model::model::Latte;

use crate::config::{ConditionKind, TrainConfig};
use crate::data::source::{OpenedData, open_data};
use crate::error::Result;
use clips::ClipCost;
use network::NetworkCost;
pub use network::Portion;

/// Tells how much memory the program holds.
pub trait MemoryMeter {
    /// Memory that is kept for later use is given back, and [`MemoryMeter::most_held`] begins anew.
    fn begin(&self);

    /// The most bytes that tensors took at once since [`MemoryMeter::begin`], memory kept for later use included.
    fn most_held(&self) -> u64;

    /// The most bytes that the whole process has held so far; `None` where the system does not tell.
    fn process_peak(&self) -> Option<u64>;

    /// Bytes that the system could still give; `None` where it does not tell.
    fn available(&self) -> Option<u64>;
}

/// What a run would cost. Times are those of this machine with nothing else on it than at the time of measuring.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The configuration, as it would be saved beside checkpoints.
    pub config: TrainConfig,
    /// Values that training changes.
    pub num_trainable: usize,
    /// The names of the classes; empty without classes.
    pub classes: Vec<String>,
    /// Videos that are trained on.
    pub num_videos: usize,
    /// Clips of one optimiser step.
    pub clips_per_step: usize,
    /// Floating-point operations of the matmuls of one optimiser step, by count: the same on every machine. What
    /// recomputation adds is not among them.
    pub step_flops: f64,
    /// Forward and backward passes of one optimiser step.
    pub passes_s: f64,
    /// AdamW and the moving average.
    pub update_s: f64,
    /// What loading the clips of a step adds to it, on the average of the run.
    pub loading_s: f64,
    /// Seconds of one validation, if there are any: forward passes, which are about a third of a training pass.
    pub validation_s: Option<f64>,
    /// The most memory that the run would hold, in bytes.
    pub memory: u64,
    /// The part of it that holds decoded videos and clips that are ready.
    pub memory_of_clips: u64,
    /// One checkpoint on disk, in bytes.
    pub checkpoint: u64,
    /// What of the network was run for this.
    pub portion: Portion,
    /// How many clips were loaded for this.
    pub clips_loaded: usize,
    /// What the user should know about the data.
    pub notes: Vec<String>,
}

impl Estimate {
    /// Seconds of one optimiser step.
    pub fn step_s(&self) -> f64 {
        self.passes_s + self.update_s + self.loading_s
    }

    /// Optimiser steps per second.
    pub fn steps_per_s(&self) -> f64 {
        1.0 / self.step_s()
    }

    /// The whole run; samples and checkpoints on the way are not counted.
    pub fn duration(&self) -> Duration {
        let steps = self.config.train.max_steps;
        let validations = self.config.validation.as_ref().map_or(0, |validation| steps.div_ceil(validation.every));
        let seconds = steps as f64 * self.step_s() + validations as f64 * self.validation_s.unwrap_or_default();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Optimiser steps in which every video gives one clip.
    pub fn steps_per_epoch(&self) -> f64 {
        self.num_videos as f64 / self.clips_per_step as f64
    }
}

/// Measures what `config` would cost: opens the data, loads some clips, and runs some steps of the network or of a part of it.
///
/// # Errors
///
/// If the data and the configuration do not fit together, or no video gives a clip.
pub fn estimate(mut config: TrainConfig, meter: &dyn MemoryMeter) -> Result<Estimate> {
    let OpenedData { source, classes, mark, notes, .. } = open_data(&config)?;
    let model = config.resolve_model(classes.len())?;
    if config.model.condition == ConditionKind::Class {
        config.model.num_classes = Some(classes.len());
    }
    let clips_per_step = config.train.batch_size * config.train.gradient_accumulation_steps;
    let clips = ClipCost::measure(&Arc::from(source), &config, meter)?;
    let network = NetworkCost::measure(&config, &model, meter)?;
    // Small tensors, the program itself: what the process held at its largest beyond the tensors that were counted.
    let rest = meter.process_peak().map_or(0, |peak| peak.saturating_sub(network.most_measured));
    let memory_of_clips = clips.memory(&config);
    let passes_s = network.pass_s * config.train.gradient_accumulation_steps as f64;
    let busy_s = passes_s + network.update_s;
    let validation_s = config.validation.as_ref().map(|validation| {
        (validation.clips * validation.timesteps) as f64 * network.pass_s / config.train.batch_size as f64 / 3.0
    });
    let specs = Latte::new(model)?;
    let all: usize = specs.parameters().iter().map(latte_model::model::ParameterSpec::num_values).sum();
    let num_trainable = specs.num_trainable();
    // The backward pass has two matmuls for each one of the forward pass.
    let step_flops = 3.0 * specs.forward_flops(clips_per_step, config.data.joint_images);
    Ok(Estimate {
        num_trainable,
        classes,
        num_videos: mark.num_videos,
        clips_per_step,
        step_flops,
        passes_s,
        update_s: network.update_s,
        loading_s: clips.added_to_a_step(&config, busy_s),
        validation_s,
        memory: rest + network.held + memory_of_clips,
        memory_of_clips,
        checkpoint: (2 * (all + num_trainable) * size_of::<f32>()) as u64,
        portion: network.portion,
        clips_loaded: clips.loaded,
        notes,
        config,
    })
}
