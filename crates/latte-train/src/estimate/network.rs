//! The cost of a step of the network, measured on the whole network or extrapolated from fewer blocks and clips.

use std::time::Instant;

use candle_core::Tensor;
use latte_model::diffusion::TimestepSampler;
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_model::noise::TorchRng;

use super::MemoryMeter;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::engine::state::TrainState;
use crate::error::Result;
use crate::tasks::class::labels::Labels;
use crate::tasks::denoising::noising::{Clips, DrawRules, draw};
use crate::tasks::denoising::step::Stepper;

/// A step of up to this many seconds is measured on the whole network.
const AFFORDABLE_S: f64 = 6.0;
/// Fast steps are repeated for this many seconds, because the speed of a shared machine varies.
const REPEAT_S: f64 = 5.0;
/// The smaller depth: one spatial and one temporal block in every layout.
const SHALLOW: usize = 2;
/// The largest number of passes to run: from the second pass on, the gradients of the first are also in memory.
const MAX_PASSES: usize = 2;

/// The part of the network that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// The whole network, with all clips of a pass.
    Whole,
    /// Two depths and, if a pass has several clips, two numbers of clips; the rest is extrapolated linearly.
    Part {
        /// Blocks.
        depths: [usize; 2],
        /// Clips of a pass.
        clips: [usize; 2],
    },
}

/// The cost of one optimiser step.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetworkCost {
    /// Seconds of one pass, including the random draws.
    pub(super) pass_s: f64,
    /// Seconds of AdamW and the moving average.
    pub(super) update_s: f64,
    /// Bytes of tensors: weights, average, moments, gradients, activations.
    pub(super) held: u64,
    /// The peak of tensor bytes during the measurement.
    pub(super) most_measured: u64,
    pub(super) portion: Portion,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Corner {
    pass_s: f64,
    update_s: f64,
    held: f64,
}

impl NetworkCost {
    pub(super) fn measure(config: &TrainConfig, model: &LatteConfig, meter: &dyn MemoryMeter) -> Result<Self> {
        let (depth, clips) = (model.depth, config.train.batch_size);
        let shallow = SHALLOW.min(depth);
        let run = |depth: usize, clips: usize| corner(config, &LatteConfig { depth, ..model.clone() }, clips, meter);
        let first = run(shallow, 1)?;
        let times = |depth: usize, clips: usize| (depth * clips) as f64 / shallow as f64;
        let passes = config.train.gradient_accumulation_steps.min(MAX_PASSES) as f64;
        let step_s = times(depth, clips) * (first.pass_s * passes) + depth as f64 / shallow as f64 * first.update_s;
        let fits = meter.available().is_none_or(|available| times(depth, clips) * first.held < available as f64 / 2.0);
        if step_s <= AFFORDABLE_S && fits {
            let Corner { pass_s, update_s, held } = if (depth, clips) == (shallow, 1) { first } else { run(depth, clips)? };
            let held = held as u64;
            return Ok(Self { pass_s, update_s, held, most_measured: held, portion: Portion::Whole });
        }
        // As deep as time permits, in pairs of blocks; for a network like XL at least two pairs.
        let affordable = (AFFORDABLE_S / (first.pass_s * passes) * shallow as f64) as usize / SHALLOW * SHALLOW;
        let deep = affordable.clamp(2 * SHALLOW, depth.max(2 * SHALLOW)).min(depth);
        let many = clips.min(2);
        let second = if deep > shallow { run(deep, 1)? } else { first };
        let corners = match many {
            1 => [first, second, first, second],
            _ if deep > shallow => [first, second, run(shallow, many)?, run(deep, many)?],
            _ => {
                let other = run(shallow, many)?;
                [first, first, other, other]
            }
        };
        let lines = Lines { depths: [shallow, deep], clips: [1, many] };
        let at = |value: fn(&Corner) -> f64| lines.at(corners.map(|corner| value(&corner)), depth, clips).max(0.0);
        Ok(Self {
            pass_s: at(|corner| corner.pass_s),
            update_s: at(|corner| corner.update_s),
            held: at(|corner| corner.held) as u64,
            most_measured: corners.iter().map(|corner| corner.held as u64).max().unwrap_or_default(),
            portion: Portion::Part { depths: lines.depths, clips: lines.clips },
        })
    }
}

/// Linear functions of depth and clips through four measurements.
#[derive(Debug, Clone, Copy)]
struct Lines {
    depths: [usize; 2],
    clips: [usize; 2],
}

impl Lines {
    /// The value at `depth` and `clips`. `values` are those at (shallow, few), (deep, few), (shallow, many), (deep, many).
    fn at(&self, values: [f64; 4], depth: usize, clips: usize) -> f64 {
        let share = |[from, to]: [usize; 2], at: usize| {
            if from == to { 0.0 } else { (at as f64 - from as f64) / (to as f64 - from as f64) }
        };
        let (d, c) = (share(self.depths, depth), share(self.clips, clips));
        let [v00, v10, v01, v11] = values;
        v00 + d * (v10 - v00) + c * (v01 - v00) + d * c * (v11 - v10 - v01 + v00)
    }
}

/// Trains a freshly initialised `model` on noise for some steps.
fn corner(config: &TrainConfig, model: &LatteConfig, clips: usize, meter: &dyn MemoryMeter) -> Result<Corner> {
    meter.begin();
    let stepper = Stepper {
        model: Latte::new(model.clone())?,
        diffusion: config.diffusion()?,
        activation_checkpointing: config.train.activation_checkpointing,
        precision: config.train.precision,
    };
    let mut rng = TorchRng::new(config.train.seed);
    let mut state = TrainState::new(&stepper.model.init(&mut rng)?, &stepper.model.trainable())?;
    let timesteps = TimestepSampler::new(config.train.timestep_sampler, config.diffusion.num_timesteps);
    let rules = DrawRules { batch_size: clips, offset_noise: config.train.offset_noise };
    let passes = config.train.gradient_accumulation_steps.min(MAX_PASSES);
    // Most steps of a run clip the gradient.
    let optimizer = OptimizerConfig { start_clip_iter: 0, ..config.optimizer.clone() };
    let begun = Instant::now();
    let (mut of_passes, mut of_updates) = (Vec::new(), Vec::new());
    // The first step is slower, because it allocates memory.
    while of_passes.len() < 2 || begun.elapsed().as_secs_f64() < REPEAT_S {
        let drawn = latents(config, model, clips * passes, &mut rng)?;
        let started = Instant::now();
        let drop = |labels: Labels, rng: &mut TorchRng| Ok(labels.dropped(model, rng));
        let batches = draw(drawn, rules, &timesteps, &drop, &mut rng)?;
        let found = stepper.gradients(&state.weights, &batches)?;
        of_passes.push(started.elapsed().as_secs_f64() / passes as f64);
        let started = Instant::now();
        state.take_step(&found, &optimizer, 0.0)?;
        of_updates.push(started.elapsed().as_secs_f64());
    }
    Ok(Corner { pass_s: median(&of_passes[1..]), update_s: median(&of_updates[1..]), held: meter.most_held() as f64 })
}

/// Noise with the shape of the latents of a step.
fn latents(config: &TrainConfig, model: &LatteConfig, clips: usize, rng: &mut TorchRng) -> Result<Clips<Labels>> {
    let num_images = config.data.joint_images;
    let [h, w] = model.input_size;
    let latents: Tensor = rng.randn((clips, model.num_frames + num_images, model.in_channels, h, w))?;
    let classes = matches!(model.condition, Condition::Class { .. });
    let labels = |count: usize| (classes && count > 0).then(|| vec![0; count]);
    Ok(Clips { latents, num_images, condition: Labels { of_clips: labels(clips), of_images: labels(clips * num_images) } })
}

/// The median; 0 of no values.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_along_straight_lines_is_extrapolated_exactly() {
        let cost = |depth: usize, clips: usize| 3.0 + 2.0 * depth as f64 + 5.0 * clips as f64 + 7.0 * (depth * clips) as f64;
        let lines = Lines { depths: [2, 6], clips: [1, 2] };
        let corners = [cost(2, 1), cost(6, 1), cost(2, 2), cost(6, 2)];
        for (depth, clips) in [(2, 1), (6, 2), (28, 5), (12, 40)] {
            assert!((lines.at(corners, depth, clips) - cost(depth, clips)).abs() < 1e-9);
        }
        // One clip only, and a network no deeper than the measured part.
        let lines = Lines { depths: [2, 2], clips: [1, 1] };
        assert_eq!(lines.at([4.0; 4], 2, 1), 4.0);
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!((median(&[3.0, 9.0, 1.0]), median(&[2.0]), median(&[])), (3.0, 2.0, 0.0));
    }
}
