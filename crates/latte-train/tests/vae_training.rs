//! Training of an autoencoder: its network equals that of the inference code, its gradients are those of the loss, an interrupted
//! run resumes exactly, and its result is an autoencoder that can be opened.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/bits.rs"]
mod bits;
#[path = "run/videos.rs"]
mod videos;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bits::bits;
use candle_core::Tensor;
use latte_model::checkpoint::CheckpointFolder;
use latte_model::noise::TorchRng;
use latte_model::vae::{Autoencoder, AutoencoderKl, KlNetwork};
use latte_ops::finite_difference::{assert_close, pseudo_random};
use latte_ops::{CancelToken, Parameters, Precision, Tape};
use latte_train::tasks::{AutoencoderTask, autoencoder};
use latte_train::{
    ActivationCheckpointing, NoProgress, Outcome, Progress, Reconstruction, Start, StepEvent, Trainer, TrainingProgress,
    VaeLossConfig, VaeModelConfig, VaeReport, VaeStepper, VaeTrainConfig, read_metrics,
};

fn sizes(levels: &[usize]) -> VaeModelConfig {
    VaeModelConfig {
        block_out_channels: levels.to_vec(),
        layers_per_block: 1,
        latent_channels: 3,
        norm_num_groups: 2,
        mid_block_add_attention: true,
        use_quant_conv: true,
        use_post_quant_conv: true,
    }
}

/// Initial weights, with noise so that no norm has weight 1 and bias 0.
fn network(config: &VaeModelConfig) -> (KlNetwork, Parameters) {
    let network = KlNetwork::new(config.unscaled().unwrap()).unwrap();
    let weights = network.init(&mut TorchRng::new(3)).unwrap();
    let moved = weights.iter().enumerate().map(|(seed, (name, t))| {
        (name.to_string(), (t.to_host().unwrap() + (pseudo_random(t.dims(), seed as u64).unwrap() * 0.1).unwrap()).unwrap())
    });
    let weights = moved.collect();
    network.check(&weights).unwrap();
    (network, weights)
}

fn channels_last(x: &Tensor) -> Tensor {
    x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn channels_first(x: &Tensor) -> Tensor {
    x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

#[test]
fn the_training_network_is_the_one_for_inference() {
    let configs = [
        sizes(&[4, 6, 8]),
        VaeModelConfig { layers_per_block: 2, mid_block_add_attention: false, ..sizes(&[4, 6]) },
        VaeModelConfig { use_quant_conv: false, use_post_quant_conv: false, ..sizes(&[8]) },
    ];
    for config in configs {
        let (network, weights) = network(&config);
        let inference = AutoencoderKl::new(config.unscaled().unwrap(), &weights, Precision::F32).unwrap();
        let frames = pseudo_random(&[3, 3, 8, 12], 7).unwrap();
        for tape in [Tape::recording, Tape::inference] {
            let tape = tape();
            let moments = network.encode(&tape, &weights, &tape.constant(channels_last(&frames))).unwrap();
            assert_close(&channels_first(&moments.to_host().unwrap()), &inference.moments(&frames).unwrap(), 1e-4).unwrap();
            let latents = inference.posterior(&frames).unwrap().mode().clone();
            let back = network.decode(&tape, &weights, &tape.constant(channels_last(&latents))).unwrap();
            assert_close(&channels_first(&back.to_host().unwrap()), &inference.decode_unscaled(&latents).unwrap(), 1e-4).unwrap();
        }
    }
}

fn stepper(network: KlNetwork, loss: VaeLossConfig, activation_checkpointing: ActivationCheckpointing) -> VaeStepper {
    VaeStepper { network, loss, activation_checkpointing }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    // The divergence weighs as much as the frames. The absolute value has a kink, which a few values may cross.
    for (reconstruction, kl_weight, tolerance) in [(Reconstruction::Mse, 30.0, 2e-4), (Reconstruction::L1, 0.0, 3.0 / 144.0)] {
        let (network, weights) = network(&sizes(&[4, 6]));
        let stepper = stepper(network, VaeLossConfig { reconstruction, kl_weight }, ActivationCheckpointing::None);
        let (frames, noise) = (pseudo_random(&[2, 3, 4, 6], 7).unwrap(), pseudo_random(&[2, 3, 2, 3], 8).unwrap());
        let found = stepper.gradients(&weights, &frames, &noise).unwrap();
        assert_eq!(found.gradients.len(), weights.len());
        let part = |name: &str| found.parts.get(name).unwrap();
        let expected = part("reconstruction") + part("kl") * kl_weight / (3.0 * 4.0 * 6.0);
        assert!((found.loss - expected).abs() < 1e-6 * expected, "{found:?}");
        for (seed, (name, weight)) in weights.iter().enumerate() {
            let direction = pseudo_random(weight.dims(), seed as u64).unwrap();
            let slope = (found.gradients.get(name).unwrap().to_host().unwrap() * &direction)
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            let loss_at = |step: f64| {
                let mut moved = weights.clone();
                moved.insert(name, (weight.to_host().unwrap() + (&direction * step).unwrap()).unwrap());
                stepper.gradients(&moved, &frames, &noise).unwrap().loss
            };
            const STEP: f64 = 1.0 / 256.0;
            let difference = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            let error = (f64::from(slope) - difference).abs();
            assert!(error < 0.02 * difference.abs() + tolerance, "{reconstruction:?} {name}: {slope} against {difference}");
        }
    }
}

#[test]
fn recomputing_changes_no_gradient() {
    let run = |activation_checkpointing| {
        let (network, weights) = network(&sizes(&[4, 6]));
        let (frames, noise) = (pseudo_random(&[2, 3, 4, 4], 7).unwrap(), pseudo_random(&[2, 3, 2, 2], 8).unwrap());
        stepper(network, VaeLossConfig::default(), activation_checkpointing).gradients(&weights, &frames, &noise).unwrap()
    };
    let (plain, recomputed) = (run(ActivationCheckpointing::None), run(ActivationCheckpointing::Block));
    assert_eq!(plain.loss.to_bits(), recomputed.loss.to_bits());
    assert_eq!(bits(&plain.gradients), bits(&recomputed.gradients));
}

fn config(folder: &Path, name: &str, overrides: &[&str]) -> VaeTrainConfig {
    let text = format!(
        r#"
[autoencoder]
block_out_channels = [8, 16]
latent_channels = 2
norm_num_groups = 4

[data]
path = '{}'
size = 16
num_frames = 2
frame_interval = 2
flip = true
decoder = "built_in"

[optimizer]
learning_rate = 4e-3
warmup_steps = 5
decay = "cosine"
max_grad_norm = 0.5
start_clip_iter = 3
ema_decay = 0.9

[train]
max_steps = 20
batch_size = 2
seed = 7

[validation]
fraction = 0.3

[output]
run = '{}'
checkpoint_every = 10
"#,
        folder.join("data").display(),
        folder.join(name).display()
    );
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    VaeTrainConfig::from_toml(&text, "test.toml", &overrides).unwrap()
}

fn finish(config: VaeTrainConfig) -> (Trainer<AutoencoderTask>, VaeReport) {
    let mut trainer = Trainer::open(autoencoder(config).unwrap(), Start::Auto).unwrap();
    match trainer.run(&CancelToken::new(), &mut NoProgress).unwrap() {
        Outcome::Finished { report, .. } => (trainer, report),
        other @ Outcome::Stopped { .. } => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupted_run_resumes_exactly() {
    /// Ends the run without saving, as a crash does.
    struct Break;
    impl Progress for Break {}
    impl TrainingProgress for Break {
        fn step(&mut self, event: &StepEvent) {
            assert!(event.record.step < 13, "the break that this test makes");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    videos::write_videos(&dir.path().join("data"));
    let mut broken = Trainer::open(autoencoder(config(dir.path(), "broken", &[])).unwrap(), Start::Fresh).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| broken.run(&CancelToken::new(), &mut Break))).is_err());
    drop(broken);
    let (resumed, again) = finish(config(dir.path(), "broken", &[]));
    assert_eq!(resumed.resumed_from().unwrap(), CheckpointFolder::of_run(&dir.path().join("broken")).of_step(10));
    let (straight, report) = finish(config(dir.path(), "straight", &[]));
    let sets = |trainer: &Trainer<AutoencoderTask>| {
        let state = trainer.state();
        [&state.weights, &state.ema, &state.first_moments, &state.second_moments].map(bits)
    };
    assert_eq!(sets(&resumed), sets(&straight));
    assert_eq!((report.psnr, &report.channels, report.scaling_factor), (again.psnr, &again.channels, again.scaling_factor));
    let log = |name: &str| read_metrics(&dir.path().join(name).join("metrics.jsonl")).unwrap();
    let shown = |name: &str| log(name).iter().map(|r| (r.step, r.loss, r.grad_norm, r.lr)).collect::<Vec<_>>();
    assert_eq!(shown("broken"), shown("straight"));
    assert_eq!(shown("broken").len(), 20);

    // Another network is refused, and so is starting over.
    let other = config(dir.path(), "broken", &["autoencoder.latent_channels=3"]);
    assert!(
        autoencoder(other)
            .and_then(|task| Trainer::open(task, Start::Auto))
            .unwrap_err()
            .to_string()
            .contains("`autoencoder` is another one")
    );
    assert!(autoencoder(config(dir.path(), "broken", &[])).and_then(|task| Trainer::open(task, Start::Fresh)).is_err());
}

#[test]
fn a_finished_run_leaves_an_autoencoder_that_learnt_something() {
    let dir = tempfile::tempdir().unwrap();
    videos::write_videos(&dir.path().join("data"));
    let (trainer, report) =
        finish(config(dir.path(), "run", &["train.max_steps=150", "train.batch_size=4", "validation.fraction=0.15"]));
    assert_eq!([trainer.num_videos(), trainer.task().num_held_out()], [5, 1]);
    assert_eq!((report.num_frames, report.held_out), (2, true));
    let (untrained, first) = finish(config(dir.path(), "untrained", &["train.max_steps=1"]));
    // On videos that it has not seen, with other colours.
    assert!(report.psnr > first.psnr + 5.0, "{report:?} {first:?}");
    assert_ne!(bits(&untrained.state().ema), bits(&trainer.state().ema));

    // The written folder has the averaged weights, and its latents have deviation 1 on frames like those of the training.
    let opened = AutoencoderKl::open(&report.folder, Precision::F32).unwrap();
    assert_eq!(opened.config().scaling_factor, report.scaling_factor);
    let mut video = Vec::new();
    for frame in 0..2_u8 {
        let square = |x: usize, y: usize| (3..9).contains(&y) && (2 + usize::from(frame)..8 + usize::from(frame)).contains(&x);
        for channel in [0.8, 0.4, -0.5] {
            video.extend((0..16 * 16).map(|i| if square(i % 16, i / 16) { channel } else { -0.84f32 }));
        }
    }
    let frames = Tensor::from_vec(video, (1, 2, 3, 16, 16), &candle_core::Device::Cpu).unwrap();
    let latent = opened.encode(&frames, &mut TorchRng::new(1)).unwrap();
    let values = latent.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
    assert!((0.6..1.6).contains(&std), "{std}");
    let back = opened.decode(&latent).unwrap();
    let error = (back - frames).unwrap().sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(10.0 * (4.0 / error).log10() > 16.0, "{error}");
}
