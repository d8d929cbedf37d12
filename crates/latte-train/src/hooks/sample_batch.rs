//! Clips generated from a run's weights, for its samples and its evaluation.

use std::sync::Arc;

use latte::{ClassId, ClassRequest, GeneratedClip, GenerationProgress, Generator, Progress, SamplingParams, Stage};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::model::Condition;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Parameters};

use crate::error::Result;

/// Clips of one round.
#[derive(Debug, Clone)]
pub(crate) struct SampleBatch {
    pub(crate) requests: Vec<ClassRequest>,
}

impl SampleBatch {
    /// `num` clips with classes in turn; each class has the same seeds, counted from `seed`. Each pixel becomes a square of
    /// `enlarge` × `enlarge`.
    pub(crate) fn new(metadata: &CheckpointMetadata, params: &SamplingParams, num: u64, seed: u64, enlarge: usize) -> Self {
        let classes = match metadata.model.condition {
            Condition::Class { num_classes, .. } => num_classes.max(1) as u64,
            _ => 1,
        };
        let has_classes = matches!(metadata.model.condition, Condition::Class { .. });
        let request = |index: u64| ClassRequest {
            class: has_classes.then_some(ClassId::Number((index % classes) as u32)),
            seed: seed.wrapping_add(index / classes),
            params: params.clone(),
            enlarge,
        };
        Self { requests: (0..num).map(request).collect() }
    }

    /// The class number of the first clip.
    pub(crate) fn first_class(&self) -> Option<u32> {
        match self.requests.first()?.class {
            Some(ClassId::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// Generates all clips; `None` if `cancel` is cancelled. Predictions are counted as `stage`.
    pub(crate) fn make(
        &self,
        metadata: &CheckpointMetadata,
        autoencoder: &Arc<dyn Autoencoder>,
        weights: &Parameters,
        cancel: &CancelToken,
        stage: Stage,
        progress: &mut dyn Progress,
    ) -> Result<Option<Vec<GeneratedClip>>> {
        // A new generator for each round, because it keeps packed weights. It shares the tensors, which do not change meanwhile.
        let generator = Generator::from_parts(metadata.clone(), Arc::clone(autoencoder), weights.clone())?;
        let mut clips = Vec::with_capacity(self.requests.len());
        let made = generator.generate_all(&self.requests, &mut Predictions { stage, progress }, cancel, &mut |_, clip| {
            clips.push(clip);
            Ok(())
        });
        match made {
            Ok(()) => Ok(Some(clips)),
            Err(latte::Error::Cancelled) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }
}

/// Counts predictions as another stage.
struct Predictions<'p> {
    stage: Stage,
    progress: &'p mut dyn Progress,
}

impl Progress for Predictions<'_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if stage == Stage::Denoising {
            self.progress.stage(self.stage, done, total);
        }
    }

    fn note(&mut self, message: &str) {
        self.progress.note(message);
    }

    fn warning(&mut self, message: &str) {
        self.progress.warning(message);
    }
}

impl GenerationProgress for Predictions<'_> {}
