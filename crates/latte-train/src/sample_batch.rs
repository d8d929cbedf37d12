//! Clips from a run's weights, for its samples and its evaluation.

use std::sync::Arc;

use latte::{ClassId, ClassRequest, GeneratedClip, Generator, Progress, SamplingParams, Stage};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::model::Condition;
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Parameters};

use crate::error::Result;

/// Clips that are made together.
#[derive(Debug, Clone)]
pub(crate) struct SampleBatch {
    pub(crate) requests: Vec<ClassRequest>,
}

impl SampleBatch {
    /// `num` clips: the classes take turns, and each class has the same seeds, from `seed` on. Each pixel becomes a square of `enlarge` ×
    /// `enlarge`.
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

    /// The number of the first clip's class.
    pub(crate) fn first_class(&self) -> Option<u32> {
        match self.requests.first()?.class {
            Some(ClassId::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// Makes all clips; none if `cancel` is cancelled on the way. `on_step` hears after each prediction how many are done, and of how many.
    pub(crate) fn make(
        &self,
        metadata: &CheckpointMetadata,
        autoencoder: &Arc<dyn Autoencoder>,
        weights: &Parameters,
        cancel: &CancelToken,
        on_step: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Vec<GeneratedClip>>> {
        // A new one each time, for it keeps weights packed. The tensors are shared, and are not changed meanwhile.
        let generator = Generator::from_parts(metadata.clone(), Arc::clone(autoencoder), weights.clone())?;
        let mut clips = Vec::with_capacity(self.requests.len());
        for (index, request) in (0_u64..).zip(&self.requests) {
            let mut progress = OfBatch { index, clips: self.requests.len() as u64, on_step };
            match generator.generate_with(request, &mut progress, cancel) {
                Ok(clip) => clips.push(clip),
                Err(latte::Error::Cancelled) => return Ok(None),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(Some(clips))
    }
}

/// The progress of one clip of a batch.
struct OfBatch<'p> {
    index: u64,
    clips: u64,
    on_step: &'p mut dyn FnMut(u64, u64),
}

impl Progress for OfBatch<'_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if stage == Stage::Denoising {
            (self.on_step)(self.index * total + done, self.clips * total);
        }
    }
}
