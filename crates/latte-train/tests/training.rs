//! Whole runs on tiny videos, and the gradients of a single step.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod run;

use std::path::Path;

use candle_core::Tensor;
use latte_model::checkpoint::{CheckpointFolder, find_weights, load_weights};
use latte_model::diffusion::{Diffusion, DiffusionConfig, TimestepSpacing, VarianceType};
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_ops::{CancelToken, Parameters, Precision, Value};
use latte_train::tasks::{ClassTask, class};
use latte_train::{
    ActivationCheckpointing, Condition as _, Error, Labels, MicroBatch, NoProgress, OptimizerConfig, Outcome, Progress, Start,
    StepEvent, Stepper, TrainConfig, TrainState, Trainer, TrainingProgress, read_metrics,
};

fn never() -> CancelToken {
    CancelToken::new()
}

fn flat(set: &Parameters) -> Vec<f32> {
    set.iter().flat_map(|(_, t)| t.to_host().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

/// The largest difference divided by the largest value.
fn distance(a: &Parameters, b: &Parameters) -> f32 {
    let (a, b) = (flat(a), flat(b));
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(0_f32, |m, v| m.max(v.abs()));
    a.iter().zip(&b).fold(0_f32, |m, (a, b)| m.max((a - b).abs())) / scale
}

fn stepper(activation_checkpointing: ActivationCheckpointing) -> (Stepper<Latte>, Parameters) {
    let model = LatteConfig {
        input_size: [4, 4],
        num_frames: 2,
        in_channels: 3,
        hidden_size: 16,
        depth: 2,
        num_heads: 2,
        condition: Condition::Class { num_classes: 3, dropout: 0.1 },
        ..LatteConfig::preset("Latte-S/2").unwrap()
    };
    let model = Latte::new(model).unwrap();
    // Fresh weights give output 0, where most gradients are 0; a little noise everywhere makes every gradient count.
    let mut rng = TorchRng::new(3);
    let weights = model.init(&mut rng).unwrap();
    let noisy = |(name, t): (&str, &Value)| {
        (name.to_string(), (t.to_host().unwrap() + (rng.randn(t.dims()).unwrap() * 0.05).unwrap()).unwrap())
    };
    let weights: Parameters = weights.iter().map(noisy).collect();
    let diffusion = Diffusion::new(&DiffusionConfig::default(), &TimestepSpacing::All).unwrap();
    (Stepper { model, diffusion, activation_checkpointing, precision: Precision::F32 }, weights)
}

fn batch(clips: usize) -> MicroBatch<Labels> {
    let mut rng = TorchRng::new(11);
    let mut draw = || rng.randn((clips, 2, 3, 4, 4)).unwrap();
    MicroBatch {
        latents: draw(),
        noise: draw(),
        timesteps: (0..clips).map(|i| i * 997 % 1000).collect(),
        num_images: 0,
        condition: Labels { of_clips: Some((0..clips).map(|i| (i % 4) as u32).collect()), of_images: None },
        loss_weights: None,
    }
}

fn part(batch: &MicroBatch<Labels>, start: usize, length: usize) -> MicroBatch<Labels> {
    let cut = |t: &Tensor| t.narrow(0, start, length).unwrap().contiguous().unwrap();
    MicroBatch {
        latents: cut(&batch.latents),
        noise: cut(&batch.noise),
        timesteps: batch.timesteps[start..start + length].to_vec(),
        num_images: 0,
        condition: batch.condition.of_clips(start..start + length, 0).unwrap(),
        loss_weights: None,
    }
}

#[test]
fn passes_add_up_to_one_batch() {
    let (stepper, weights) = stepper(ActivationCheckpointing::None);
    let whole = batch(6);
    let one = stepper.gradients(&weights, std::slice::from_ref(&whole)).unwrap();
    for cuts in [vec![2, 2, 2], vec![1; 6], vec![4, 2]] {
        let mut start = 0;
        let passes: Vec<MicroBatch<Labels>> = cuts
            .iter()
            .map(|&length| {
                start += length;
                part(&whole, start - length, length)
            })
            .collect();
        let many = stepper.gradients(&weights, &passes).unwrap();
        assert!(distance(&many.gradients, &one.gradients) < 1e-5, "{cuts:?}: {}", distance(&many.gradients, &one.gradients));
        assert!((many.grad_norm / one.grad_norm - 1.0).abs() < 1e-5);
        assert!((many.loss - one.loss).abs() < 1e-5 * one.loss);
    }
}

/// The result of the test above for the usual mistakes: no division, and division by the number of passes when they differ in size.
#[test]
fn wrong_divisions_are_far_outside_the_tolerance() {
    let (stepper, weights) = stepper(ActivationCheckpointing::None);
    let whole = batch(6);
    let right = stepper.gradients(&weights, std::slice::from_ref(&whole)).unwrap().gradients;
    let passes = [part(&whole, 0, 4), part(&whole, 4, 2)];
    let each = passes.map(|pass| stepper.gradients(&weights, &[pass]).unwrap().gradients);
    for factor in [1.0, 0.5] {
        let sum = |(name, a): (&str, &Value)| {
            let sum = (a.to_host().unwrap() + each[1].get(name).unwrap().to_host().unwrap()).unwrap();
            (name.to_string(), (sum * factor).unwrap())
        };
        let wrong: Parameters = each[0].iter().map(sum).collect();
        assert!(distance(&wrong, &right) > 1e-2, "{factor}: {}", distance(&wrong, &right));
    }
}

#[test]
fn gradients_are_those_of_finite_differences_of_the_loss() {
    let (mut stepper, _) = stepper(ActivationCheckpointing::None);
    // A fixed variance, because the variational term passes on only a part of its gradient by design.
    let config = DiffusionConfig { variance: VarianceType::FixedLarge, ..DiffusionConfig::default() };
    stepper.diffusion = Diffusion::new(&config, &TimestepSpacing::All).unwrap();
    stepper.model = Latte::new(LatteConfig { learn_sigma: false, ..stepper.model.config().clone() }).unwrap();
    let mut rng = TorchRng::new(5);
    let fresh = stepper.model.init(&mut rng).unwrap();
    let noisy = |(name, t): (&str, &Value)| {
        (name.to_string(), (t.to_host().unwrap() + (rng.randn(t.dims()).unwrap() * 0.05).unwrap()).unwrap())
    };
    let weights: Parameters = fresh.iter().map(noisy).collect();
    let batches = [batch(2), batch(1)];
    let found = stepper.gradients(&weights, &batches).unwrap();
    for name in
        ["blocks.1.attn.qkv.weight", "x_embedder.proj.weight", "y_embedder.embedding_table.weight", "final_layer.linear.bias"]
    {
        // Along the gradient, the slope is the gradient's norm.
        let gradient = &found.gradients.get(name).unwrap().to_host().unwrap();
        let length = f64::from(gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
        let loss_at = |h: f64| {
            let mut moved = weights.deep_copy().unwrap();
            let step = (gradient * (h / length)).unwrap();
            moved.insert(name, (weights.get(name).unwrap().to_host().unwrap() + step).unwrap());
            stepper.gradients(&moved, &batches).unwrap().loss
        };
        let slope = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2;
        assert!((slope - length).abs() < 0.01 * length, "{name}: {slope} {length}");
    }
}

#[test]
fn recomputing_changes_no_bit() {
    let (plain, weights) = stepper(ActivationCheckpointing::None);
    let (saving, _) = stepper(ActivationCheckpointing::Block);
    let gradients = |s: &Stepper<Latte>| flat(&s.gradients(&weights, &[batch(3)]).unwrap().gradients);
    assert_eq!(gradients(&plain), gradients(&saving));
}

#[test]
fn weight_decay_shrinks_every_trainable_parameter_and_no_other() {
    let (stepper, weights) = stepper(ActivationCheckpointing::None);
    // Both runs take the same gradient step, so their difference is the decay: learning rate times weight decay.
    let trainable = stepper.model.trainable();
    let run = |weight_decay: f64| {
        let mut state = TrainState::new(&weights, &trainable).unwrap();
        let found = stepper.gradients(&weights, &[batch(2)]).unwrap();
        state.take_step(&found, &OptimizerConfig { weight_decay, ..OptimizerConfig::default() }, 0.01).unwrap();
        state.weights
    };
    let (decayed, plain) = (run(0.5), run(0.0));
    for (name, first) in weights.iter() {
        let of = |set: &Parameters| set.get(name).unwrap().to_host().unwrap();
        let difference = (of(&plain) - of(&decayed)).unwrap();
        let expected = (first.to_host().unwrap() * (0.01 * 0.5)).unwrap();
        let expected = if trainable.iter().any(|t| t == name) { expected } else { expected.zeros_like().unwrap() };
        let off = (difference - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-6, "{name}: {off}");
    }
}

#[test]
fn a_loss_weight_of_zero_removes_a_clip() {
    let (stepper, weights) = stepper(ActivationCheckpointing::None);
    let whole = batch(4);
    let weighted = MicroBatch { loss_weights: Some(vec![2.0, 2.0, 0.0, 0.0]), ..whole.clone() };
    let half = stepper.gradients(&weights, &[part(&whole, 0, 2)]).unwrap();
    let found = stepper.gradients(&weights, &[weighted]).unwrap();
    assert!(distance(&found.gradients, &half.gradients) < 1e-5);
}

/// Records the reports of a run, and can stop it.
#[derive(Default)]
struct Diary {
    warnings: Vec<String>,
    steps: Vec<u64>,
    checkpoints: Vec<u64>,
    stop_at: Option<(u64, CancelToken)>,
}

impl Progress for Diary {
    fn warning(&mut self, message: &str) {
        self.warnings.push(message.to_string());
    }
}
impl TrainingProgress for Diary {
    fn step(&mut self, event: &StepEvent) {
        self.steps.push(event.record.step);
        assert!(event.mean_steps_per_s > 0.0);
        if let Some((step, stop)) = &self.stop_at
            && event.record.step >= *step
        {
            stop.cancel();
        }
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        assert!(path.join("state.toml").is_file());
        self.checkpoints.push(step);
    }
}

/// A folder with videos in `data`.
fn with_videos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    dir
}

fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    run::config(&dir.join("data"), &dir.join(name), overrides)
}

fn train(dir: &Path, name: &str, overrides: &[&str]) -> Trainer<ClassTask> {
    let mut trainer = Trainer::open(class(config(dir, name, overrides)).unwrap(), Start::Auto).unwrap();
    trainer.run(&never(), &mut NoProgress).unwrap();
    trainer
}

fn losses(dir: &Path, name: &str) -> Vec<f64> {
    read_metrics(&dir.join(name).join("metrics.jsonl")).unwrap().iter().map(|r| r.loss).collect()
}

#[test]
fn threads_cache_and_decode_ahead_change_nothing() {
    let dir = with_videos();
    train(dir.path(), "plain", &["train.max_steps=6", "data.cache_mib=0", "data.loader_threads=1", "data.prefetch=1"]);
    train(dir.path(), "cached", &["train.max_steps=6", "data.loader_threads=3"]);
    assert_eq!(losses(dir.path(), "plain"), losses(dir.path(), "cached"));
}

#[test]
fn accumulation_is_a_larger_batch_from_the_data_to_the_weights() {
    let dir = with_videos();
    let one = train(dir.path(), "one", &["train.max_steps=3", "train.batch_size=4", "train.gradient_accumulation_steps=1"]);
    let four = train(dir.path(), "four", &["train.max_steps=3", "train.batch_size=1", "train.gradient_accumulation_steps=4"]);
    for (a, b) in losses(dir.path(), "one").iter().zip(losses(dir.path(), "four")) {
        assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
    }
    let first_moments = distance(&one.state().first_moments, &four.state().first_moments);
    assert!(first_moments < 1e-4, "{first_moments}");
}

#[test]
fn the_loss_falls_and_the_average_samples() {
    let dir = with_videos();
    let trainer = train(dir.path(), "run", &["train.max_steps=150", "model.hidden_size=32", "output.checkpoint_every=60"]);
    let mse: Vec<f64> =
        read_metrics(&dir.path().join("run/metrics.jsonl")).unwrap().iter().map(|r| r.parts.get("mse").unwrap()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!(mean(&mse[120..]) < 0.6 * mean(&mse[..10]), "{} {}", mean(&mse[120..]), mean(&mse[..10]));

    let run = dir.path().join("run");
    let kept: Vec<u64> = CheckpointFolder::of_run(&run).list().unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(kept, [120, 150]);
    let newest = run.join("checkpoints/0000150");
    for path in [run.clone(), newest.clone(), newest.join("ema.safetensors")] {
        assert_eq!(find_weights(&path).unwrap(), newest.join("ema.safetensors"));
    }
    let (ema, card) = load_weights(&run).unwrap();
    assert_eq!(flat(&ema), flat(&trainer.state().ema));
    assert_eq!((card.classes.as_slice(), card.step, card.ema), (["down".to_string(), "right".to_string()].as_slice(), 150, true));
    assert_eq!((card.frame_size, card.num_frames, card.fps), ([16, 16], 4, 4.0));
    let model = Latte::new(card.model).unwrap();
    model.check(&ema).unwrap();
    assert_eq!(model.num_trainable(), trainer.num_trainable());
    let (weights, card) = load_weights(&newest.join("model.safetensors")).unwrap();
    assert_eq!((flat(&weights), card.ema), (flat(&trainer.state().weights), false));
    // The configuration in the checkpoint is complete and can be read back.
    let saved = TrainConfig::load(&newest.join("config.toml"), &[]).unwrap();
    assert_eq!(&saved, trainer.config());
}

#[test]
fn a_flat_folder_trains_without_classes() {
    let dir = with_videos();
    let flat = ["model.condition=none", "train.max_steps=2", "model.block_layout=late_fusion", "diffusion.variance=fixed_large"];
    let trainer = train(dir.path(), "run", &flat);
    assert_eq!(trainer.num_videos(), 6);
    assert!(!trainer.state().weights.contains("y_embedder.embedding_table.weight"));
    assert_eq!(trainer.task().metadata().model.out_channels(), 3);
    assert!(read_metrics(&dir.path().join("run/metrics.jsonl")).unwrap()[0].parts.get("vb").is_none());
}

#[test]
fn stopping_finishes_the_step_and_saves_it() {
    let dir = with_videos();
    let stop = never();
    let mut diary = Diary { stop_at: Some((3, stop.clone())), ..Diary::default() };
    let mut trainer = Trainer::open(class(config(dir.path(), "run", &[])).unwrap(), Start::Fresh).unwrap();
    let outcome = trainer.run(&stop, &mut diary).unwrap();
    let checkpoint = dir.path().join("run/checkpoints/0000003");
    assert_eq!(outcome, Outcome::Stopped { step: 3, checkpoint: checkpoint.clone() });
    assert_eq!((diary.steps, diary.checkpoints), (vec![1, 2, 3], vec![3]));
    drop(trainer);
    let fresh = class(config(dir.path(), "run", &[])).and_then(|task| Trainer::open(task, Start::Fresh)).unwrap_err().to_string();
    assert!(fresh.contains("this run has checkpoints") && fresh.contains("0000003"), "{fresh}");
    assert_eq!(
        Trainer::open(class(config(dir.path(), "run", &[])).unwrap(), Start::Resume).unwrap().resumed_from(),
        Some(checkpoint.as_path())
    );
    let none =
        class(config(dir.path(), "other", &[])).and_then(|task| Trainer::open(task, Start::Resume)).unwrap_err().to_string();
    assert!(none.contains("no checkpoint to resume from"), "{none}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_leaves_the_checkpoint_alone() {
    let dir = with_videos();
    train(dir.path(), "run", &["train.max_steps=2"]);
    let checkpoint = dir.path().join("run/checkpoints/0000002");
    let before = load_weights(&checkpoint.join("model.safetensors")).unwrap().0;
    let diverging = ["optimizer.learning_rate=1e30", "optimizer.warmup_steps=0", "output.checkpoint_every=100"];
    let mut trainer = Trainer::open(class(config(dir.path(), "run", &diverging)).unwrap(), Start::Auto).unwrap();
    let error = trainer.run(&never(), &mut NoProgress).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    let message = error.to_string();
    let names_all = message.contains("step 4") && message.contains("0000002") && message.contains("optimizer.learning_rate");
    assert!(names_all && !message.contains('\n'), "{message}");
    assert_eq!(flat(&load_weights(&dir.path().join("run/checkpoints/0000002/model.safetensors")).unwrap().0), flat(&before));
    assert_eq!(CheckpointFolder::of_run(&dir.path().join("run")).latest().unwrap(), Some(checkpoint));
}

#[test]
fn one_bad_file_is_skipped_and_only_bad_files_are_an_error() {
    let dir = with_videos();
    std::fs::write(dir.path().join("data/down/broken.mp4"), b"this is no video").unwrap();
    let mut diary = Diary::default();
    let mut trainer = Trainer::open(class(config(dir.path(), "run", &["train.max_steps=8"])).unwrap(), Start::Auto).unwrap();
    trainer.run(&never(), &mut diary).unwrap();
    assert_eq!(diary.warnings.len(), 1, "{:?}", diary.warnings);
    assert!(diary.warnings[0].contains("broken.mp4"), "{:?}", diary.warnings);

    for class in ["down", "right"] {
        let folder = dir.path().join("bad").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("x.mp4"), b"this is no video").unwrap();
    }
    let bad = run::config(&dir.path().join("bad"), &dir.path().join("other"), &[]);
    let error = class(bad).and_then(|task| Trainer::open(task, Start::Auto)).unwrap_err().to_string();
    assert!(error.contains("none of the 2 videos can be opened") && error.contains("x.mp4"), "{error}");
    // Videos that can be opened but are too short for the window.
    let mut short = Trainer::open(class(config(dir.path(), "short", &["data.num_frames=16"])).unwrap(), Start::Auto).unwrap();
    let error = short.run(&never(), &mut NoProgress).unwrap_err().to_string();
    assert!(error.contains("none of the 7 files gives a clip") && error.contains("16"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let dir = with_videos();
    train(dir.path(), "run", &["train.max_steps=1"]);
    let refuse = |overrides: &[&str], words: &str| {
        let error = class(config(dir.path(), "run", overrides))
            .and_then(|task| Trainer::open(task, Start::Auto))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{words}: {error}");
    };
    refuse(&["model.depth=4"], "the model is another one");
    refuse(&["diffusion.prediction=x0"], "`diffusion` is another one");
    refuse(&["model.num_classes=5"], "model.num_classes: 5 is written, but the data has 2 classes");
    refuse(&["data.path=/nowhere/at/all"], "/nowhere/at/all");
    std::fs::create_dir(dir.path().join("data/zero")).unwrap();
    refuse(&[], "no video in this folder");
    std::fs::remove_dir(dir.path().join("data/zero")).unwrap();
    std::fs::rename(dir.path().join("data/down"), dir.path().join("data/up")).unwrap();
    refuse(&[], "the list of classes is another one");
    let damaged = dir.path().join("run/checkpoints/0000001/ema.safetensors");
    std::fs::rename(dir.path().join("data/up"), dir.path().join("data/down")).unwrap();
    std::fs::write(&damaged, b"x").unwrap();
    refuse(&[], "ema.safetensors");
}

#[test]
fn a_resume_that_cannot_be_exact_says_so() {
    let dir = with_videos();
    train(dir.path(), "run", &["train.max_steps=2"]);
    let resumed = |overrides: &[&str]| {
        let mut diary = Diary::default();
        let mut trainer = Trainer::open(class(config(dir.path(), "run", overrides)).unwrap(), Start::Auto).unwrap();
        trainer.run(&never(), &mut diary).unwrap();
        diary.warnings
    };
    assert!(resumed(&["train.max_steps=3"]).is_empty());
    let seed = resumed(&["train.max_steps=4", "train.seed=8"]);
    assert!(seed.len() == 1 && seed[0].contains("seed"), "{seed:?}");
    let data = dir.path().join("data");
    std::fs::copy(data.join("down/0.mp4"), data.join("down/9.mp4")).unwrap();
    let more = resumed(&["train.max_steps=5", "train.seed=8"]);
    assert!(more.len() == 1 && more[0].contains("6 then, 7 now"), "{more:?}");
}

#[test]
fn clips_have_the_right_pixels_and_labels() {
    use latte_train::{ClipSource, VideoSource, list_data};
    let dir = with_videos();
    let config = config(dir.path(), "run", &["data.flip=false", "data.size=[24,24]", "data.frame_interval=1"]);
    let dataset = list_data(&config).unwrap().dataset;
    assert_eq!(dataset.items.iter().map(|item| item.label.unwrap()).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
    let source = VideoSource::new(dataset.clone(), &config.data);
    let load = |source: &VideoSource, seed| {
        let clip = source.load(3, &mut TorchRng::new(seed)).unwrap();
        let pixels = clip.frames.values().clone();
        (pixels, clip.label)
    };
    let (pixels, label) = load(&source, 1);
    assert_eq!((pixels.len(), label), (4 * 3 * 24 * 24, Some(1)));
    // The square moves right by one pixel per frame: so does the brightest column of the red channel's sums.
    let left_edge = |frame: usize| {
        let red = &pixels[frame * 3 * 576..][..576];
        (0..24).find(|x| (0..24).map(|y| red[y * 24 + x]).sum::<f32>() > -24.0 * 0.8 + 3.0).unwrap()
    };
    let edges: Vec<usize> = (0..4).map(left_edge).collect();
    assert!(edges.windows(2).all(|w| w[1] == w[0] + 1), "{edges:?}");
    assert!(pixels.iter().all(|v| (-1.0..=1.0).contains(v)));
    // A flipped clip is the mirror image, and about half of the clips are flipped.
    let flipping = VideoSource::new(dataset, &latte_train::DataConfig { flip: true, ..config.data });
    let mut flipped = 0;
    for seed in 0..40 {
        let plain = load(&source, seed).0;
        let other = load(&flipping, seed).0;
        let mirror: Vec<f32> = plain.chunks(24).flat_map(|row| row.iter().rev().copied()).collect();
        assert!(other == plain || other == mirror);
        flipped += usize::from(other == mirror);
    }
    assert!((8..=32).contains(&flipped), "{flipped}");
}
