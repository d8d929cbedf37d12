//! Estimates the memory, time and disk space of a run before it starts. Everything is measured on this machine, on as much of the
//! run as time permits; nothing is written.

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

/// Measures the memory of the program.
pub trait MemoryMeter {
    /// Releases cached memory and resets [`MemoryMeter::most_held`].
    fn begin(&self);

    /// The peak of tensor bytes since [`MemoryMeter::begin`], including cached memory.
    fn most_held(&self) -> u64;

    /// The peak memory of the whole process in bytes; `None` if the system does not report it.
    fn process_peak(&self) -> Option<u64>;

    /// The memory that is still available, in bytes; `None` if the system does not report it.
    fn available(&self) -> Option<u64>;
}

/// The cost of a run. Times hold for this machine under the same load as during the measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The configuration, as it would be saved beside checkpoints.
    pub config: TrainConfig,
    /// The number of trainable values.
    pub num_trainable: usize,
    /// The names of the classes; empty without classes.
    pub classes: Vec<String>,
    /// The number of training videos.
    pub num_videos: usize,
    /// Clips of one optimiser step.
    pub clips_per_step: usize,
    /// Floating-point operations of the matmuls of one optimiser step, counted from the sizes: the same on every machine. The
    /// recomputation of activation checkpointing is not counted.
    pub step_flops: f64,
    /// Seconds of the forward and backward passes of one optimiser step.
    pub passes_s: f64,
    /// Seconds of AdamW and the moving average.
    pub update_s: f64,
    /// Seconds that loading its clips adds to a step, averaged over the run.
    pub loading_s: f64,
    /// Seconds of one validation, if there are any: forward passes, which are about a third of a training pass.
    pub validation_s: Option<f64>,
    /// The peak memory of the run in bytes.
    pub memory: u64,
    /// The part of it for cached videos and ready clips.
    pub memory_of_clips: u64,
    /// The size of a checkpoint on disk in bytes.
    pub checkpoint: u64,
    /// The part of the network that was measured.
    pub portion: Portion,
    /// The number of clips that were loaded for the measurement.
    pub clips_loaded: usize,
    /// Notes about the data for the user.
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

    /// The time of the whole run, without samples and checkpoints.
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

/// Measures the cost of `config`: opens the data, loads some clips, and runs some steps of the network or of a part of it.
///
/// # Errors
///
/// If the data and the configuration do not fit together, or no video can be loaded.
pub fn estimate(mut config: TrainConfig, meter: &dyn MemoryMeter) -> Result<Estimate> {
    let OpenedData { source, classes, mark, notes, .. } = open_data(&config)?;
    let model = config.resolve_model(classes.len())?;
    if config.model.condition == ConditionKind::Class {
        config.model.num_classes = Some(classes.len());
    }
    let clips_per_step = config.train.batch_size * config.train.gradient_accumulation_steps;
    let clips = ClipCost::measure(&Arc::from(source), &config, meter)?;
    let network = NetworkCost::measure(&config, &model, meter)?;
    // Small tensors and the program itself: the peak of the process minus the tensors that were counted.
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
    // The backward pass has two matmuls for each matmul of the forward pass.
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
