//! The task of class-conditional and unconditional models: the denoising loss of the paper.

pub(crate) mod labels;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use latte_model::checkpoint::{CheckpointMetadata, FORMAT, MODEL_FILE};
use latte_model::diffusion::TimestepSampler;
use latte_model::model::Latte;
use latte_model::noise::TorchRng;
use latte_model::vae::{Autoencoder, AutoencoderFingerprint};
use latte_model::weights::Pretrained;
use latte_ops::Parameters;
use serde_json::Value;

use crate::config::{ConditionKind, InitConfig, TrainConfig};
use crate::data::latent_draw::LatentDraw;
use crate::data::loader::{ClipSource, LoadedClip};
use crate::data::source::{OpenedData, expect_a_clip, open_data_on};
use crate::engine::gradients::StepGradients;
use crate::engine::saved::Saved;
use crate::engine::task::{Prepared, Task};
use crate::error::{Error, Result};
use crate::hooks::Hook;
use crate::hooks::evaluation::{Evaluation, Evaluator};
use crate::hooks::samples::Samples;
use crate::hooks::validation::Validation;
use crate::tasks::denoising::noising::{Clips, DrawRules, draw};
use crate::tasks::denoising::step::{MicroBatch, Stepper};
use labels::Labels;

/// Opens the data of a class-conditional or unconditional model's run and builds its network.
///
/// # Errors
///
/// If the data and the configuration do not fit together; each error says what to change.
pub fn class(config: TrainConfig) -> Result<Prepared<ClassTask>> {
    class_on(config, &Device::Cpu)
}

/// As [`class`], with the training steps and the autoencoder on `device`. Videos are always decoded on the CPU.
///
/// # Errors
///
/// As [`class`].
pub fn class_on(mut config: TrainConfig, device: &Device) -> Result<Prepared<ClassTask>> {
    let OpenedData { source, held_out, space, vae, autoencoder, classes, fps, mark: data, notes: warnings } =
        open_data_on(&config, device)?;
    let model = config.resolve_model(classes.len())?;
    if config.model.condition == ConditionKind::Class {
        config.model.num_classes = Some(classes.len());
    }
    let latents_of = LatentDraw::new(space, config.autoencoder.posterior, model.input_size);
    if config.validation.is_some()
        && let Some(held_out) = &held_out
    {
        expect_a_clip(held_out.as_ref())?;
    }
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
    let stepper = Stepper {
        model: Latte::new(model)?,
        diffusion: config.diffusion()?,
        activation_checkpointing: config.train.activation_checkpointing,
        precision: config.train.precision,
    };
    let timesteps = TimestepSampler::new(config.train.timestep_sampler, config.diffusion.num_timesteps);
    let task = ClassTask { metadata, latents_of, stepper, timesteps, held_out, autoencoder, evaluator: None, config };
    Ok(Prepared { task, source, data, device: device.clone(), warnings })
}

/// The training of a class-conditional or unconditional model.
pub struct ClassTask {
    config: TrainConfig,
    metadata: CheckpointMetadata,
    latents_of: LatentDraw,
    stepper: Stepper<Latte>,
    timesteps: TimestepSampler,
    /// `None` after validation has taken it.
    held_out: Option<Box<dyn ClipSource>>,
    /// Set if clips are encoded when they are loaded.
    autoencoder: Option<Arc<dyn Autoencoder>>,
    /// `None` after evaluation has taken it.
    evaluator: Option<Box<dyn Evaluator>>,
}

impl std::fmt::Debug for ClassTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClassTask").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Prepared<ClassTask> {
    /// Sets the evaluator of clips, for `[evaluation]`.
    #[must_use]
    pub fn with_evaluator(mut self, evaluator: Box<dyn Evaluator>) -> Self {
        self.task.evaluator = Some(evaluator);
        self
    }
}

impl ClassTask {
    /// The metadata of the model.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.metadata
    }

    /// Draws latents from the encoder's moments, clip by clip, so that the draws are in the order of the clips.
    fn latents(&self, clips: Vec<LoadedClip>, rng: &mut TorchRng) -> Result<Clips<Labels>> {
        let num_images = self.config.data.joint_images;
        let of_clips: Option<Vec<u32>> = clips.iter().map(|clip| clip.label).collect();
        let of_images = (num_images > 0 && of_clips.is_some())
            .then(|| clips.iter().flat_map(|clip| clip.image_labels.iter().copied()).collect());
        let mut latents = Vec::with_capacity(clips.len());
        for clip in clips {
            latents.push(self.latents_of.draw(clip.frames, rng)?); // [1, f + images, c, h, w]
        }
        Ok(Clips { latents: Tensor::cat(&latents, 0)?, num_images, condition: Labels { of_clips, of_images } }) // [clips, f + images, c, h, w]
    }
}

impl Task for ClassTask {
    type Config = TrainConfig;
    type Batch = Vec<MicroBatch<Labels>>;
    type Report = ();

    fn config(&self) -> &TrainConfig {
        &self.config
    }

    fn clips_per_step(&self) -> usize {
        self.config.train.batch_size * self.config.train.gradient_accumulation_steps
    }

    fn trainable(&self) -> Vec<String> {
        self.stepper.model.trainable()
    }

    fn init(&self, rng: &mut TorchRng) -> Result<(Parameters, Vec<String>)> {
        let mut weights = self.stepper.model.init(rng)?;
        let notes = match &self.config.init {
            Some(init) => inherit(init, &self.stepper.model, &mut weights)?,
            None => Vec::new(),
        };
        Ok((weights, notes))
    }

    fn draw(&self, clips: Vec<LoadedClip>, rng: &mut TorchRng) -> Result<Vec<MicroBatch<Labels>>> {
        let clips = self.latents(clips, rng)?;
        let rules = DrawRules { batch_size: self.config.train.batch_size, offset_noise: self.config.train.offset_noise };
        let drop = |labels: Labels, rng: &mut TorchRng| Ok(labels.dropped(&self.metadata.model, rng));
        draw(clips, rules, &self.timesteps, &drop, rng)
    }

    fn gradients(&self, weights: &Parameters, batches: &Vec<MicroBatch<Labels>>) -> Result<StepGradients> {
        self.stepper.gradients(weights, batches)
    }

    fn learn(&mut self, batches: &Vec<MicroBatch<Labels>>, found: &StepGradients) -> Result<()> {
        let times: Vec<usize> = batches.iter().flat_map(|batch| batch.timesteps.iter().copied()).collect();
        Ok(self.timesteps.update(&times, &found.clip_losses)?)
    }

    fn timesteps(&self) -> Option<&TimestepSampler> {
        Some(&self.timesteps)
    }

    fn descriptions(&self, step: u64) -> Result<Option<[Value; 2]>> {
        let of = |ema| {
            let metadata = CheckpointMetadata { step, ema, ..self.metadata.clone() };
            serde_json::to_value(metadata).map_err(|e| Error::checkpoint(&self.config.output.run, e.to_string()))
        };
        Ok(Some([of(false)?, of(true)?]))
    }

    fn resume(&mut self, saved: &Saved<'_, TrainConfig>, warnings: &mut Vec<String>) -> Result<()> {
        let (old, config, metadata) = (&saved.checkpoint.config, &self.config, &self.metadata);
        let before = saved.readable(metadata_of(saved))?;
        let same = [
            ("the list of classes", before.classes == metadata.classes),
            ("the model", before.model == metadata.model),
            ("`diffusion`", old.diffusion == metadata.diffusion),
            // The path of the autoencoder does not matter.
            (
                "the autoencoder",
                before.autoencoder.kind == metadata.autoencoder.kind && same_vae(before.vae.as_ref(), metadata.vae.as_ref()),
            ),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(saved.is_of_another(what));
        }
        let check = self.stepper.model.check(&saved.checkpoint.state.weights);
        saved.readable(check.map_err(|what| Error::checkpoint(saved.path, what)))?;
        let drawn = |c: &TrainConfig| {
            (c.train.seed, c.train.batch_size, c.train.gradient_accumulation_steps, c.data.joint_images, c.autoencoder.posterior)
        };
        if drawn(old) != drawn(config) {
            let what = "seed, batch size, accumulation, joint images or posterior differ from the checkpoint's";
            warnings.push(format!("{what}: the run resumes, but its results differ from those of an uninterrupted run"));
        }
        if let Some(learnt) = &saved.checkpoint.run.timesteps
            && config.train.timestep_sampler == old.train.timestep_sampler
        {
            self.timesteps = learnt.clone();
        }
        Ok(())
    }

    fn hooks(&mut self) -> Result<Vec<Box<dyn Hook>>> {
        let mut hooks: Vec<Box<dyn Hook>> = Vec::new();
        if let (Some(of), Some(held_out)) = (&self.config.validation, self.held_out.take()) {
            hooks.push(Box::new(Validation::new(&self.config, of, &self.metadata.model, held_out, self.latents_of.clone())?));
        }
        hooks.push(Box::new(Samples::new(&self.config, &self.metadata, self.autoencoder.as_ref())?));
        match (&self.config.evaluation, self.evaluator.take()) {
            (Some(of), Some(evaluator)) => {
                hooks.push(Box::new(Evaluation::new(&self.config, of, &self.metadata, evaluator)?));
            }
            (Some(_), None) => {
                let what = "set, but this program has no evaluator; leave it out";
                return Err(Error::config("configuration", "evaluation", what));
            }
            (None, _) => {}
        }
        Ok(hooks)
    }

    fn finish(&self, _ema: &Parameters) -> Result<()> {
        Ok(())
    }
}

/// The metadata of the checkpoint's model.
fn metadata_of(saved: &Saved<'_, TrainConfig>) -> Result<CheckpointMetadata> {
    Ok(CheckpointMetadata::from_description(&saved.path.join(MODEL_FILE), saved.checkpoint.description.clone())?)
}

fn same_vae(one: Option<&AutoencoderFingerprint>, other: Option<&AutoencoderFingerprint>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Replaces fresh weights by those of `init`, as far as they fit; returns a report.
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
