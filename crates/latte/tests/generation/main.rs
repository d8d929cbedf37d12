//! Clips of whole models: every sampler with a class model, every sampler stopped and resumed, and the two public model types.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod class_models;
mod facade;
mod resumed;

use std::sync::Arc;

use latte::{CancelToken, ClassModel, ClassModelConfig, GenerationProgress, Progress, StepReport};
use latte_model::diffusion::{DiffusionConfig, PredictionType, VarianceType};
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_model::vae::Pixels;

/// A tiny class model on pixels with random weights, the same in every call.
fn class_model(prediction: PredictionType, variance: VarianceType, clip_denoised: bool) -> ClassModel {
    let network = LatteConfig {
        input_size: [4, 4],
        num_frames: 2,
        in_channels: 3,
        hidden_size: 16,
        depth: 2,
        num_heads: 2,
        condition: Condition::Class { num_classes: 3, dropout: 0.1 },
        learn_sigma: variance.is_learned(),
        ..LatteConfig::preset("Latte-S/2").unwrap()
    };
    let diffusion = DiffusionConfig { prediction, variance, ..DiffusionConfig::default() };
    let mut rng = TorchRng::new(3);
    let fresh = Latte::new(network.clone()).unwrap().init(&mut rng).unwrap();
    // Fresh weights predict 0 for every class; a little noise everywhere makes input and class count.
    let noisy = fresh
        .iter()
        .map(|(name, t)| (name.to_string(), (t.to_host().unwrap() + (rng.randn(t.dims()).unwrap() * 0.05).unwrap()).unwrap()));
    let config =
        ClassModelConfig { network, diffusion, autoencoder: Arc::new(Pixels), clip_denoised, frame_size: [4, 4], num_frames: 2 };
    ClassModel::new(config, noisy.collect()).unwrap()
}

/// Cancels after `after` predictions, never for 0; records the numbers of the reported predictions.
#[derive(Default)]
struct CancelAfter {
    after: usize,
    cancel: CancelToken,
    heard: Vec<usize>,
    num_steps: usize,
}

impl CancelAfter {
    fn new(after: usize) -> Self {
        Self { after, ..Self::default() }
    }
}

impl Progress for CancelAfter {}

impl GenerationProgress for CancelAfter {
    fn predicted(&mut self, report: &StepReport) {
        self.heard.push(report.done);
        self.num_steps = report.num_steps;
        if report.done == self.after {
            self.cancel.cancel();
        }
    }
}
