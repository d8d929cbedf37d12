//! Validation: the choice of videos, the same results for the same weights, and no influence on the training.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/bits.rs"]
mod bits;
mod run;

use std::path::Path;

use bits::bits;
use latte_ops::CancelToken;
use latte_train::tasks::{ClassTask, class};
use latte_train::{
    NoProgress, Progress, Start, TrainConfig, Trainer, TrainingProgress, ValidationRecord, list_data, open_data, read_validation,
};

fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    run::config(&dir.join("data"), &dir.join(name), overrides)
}

/// Training videos in `data`, and others in `other`.
fn with_videos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["data", "other"] {
        run::write_videos(&dir.path().join(name));
    }
    dir
}

fn train(dir: &Path, name: &str, overrides: &[&str]) -> (Trainer<ClassTask>, Vec<ValidationRecord>) {
    let mut trainer = Trainer::open(class(config(dir, name, overrides)).unwrap(), Start::Auto).unwrap();
    trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
    let log = dir.join(name).join("validation.jsonl");
    let records = if log.exists() { read_validation(&log).unwrap() } else { Vec::new() };
    (trainer, records)
}

/// The results, without the times.
fn figures(records: &[ValidationRecord]) -> Vec<(u64, f64, Option<f64>, Option<f64>)> {
    records.iter().map(|r| (r.step, r.loss, r.mse, r.vb)).collect()
}

const SHORT: [&str; 4] = ["train.max_steps=7", "validation.every=3", "validation.clips=5", "validation.timesteps=4"];

#[test]
fn validation_on_other_data_changes_no_bit_of_the_training() {
    let dir = with_videos();
    let other = format!("validation.path={}", dir.path().join("other").display());
    let (plain, none) = train(dir.path(), "plain", &SHORT[..1]);
    let (validated, records) = train(dir.path(), "validated", &[&SHORT[..], &[&other]].concat());
    assert_eq!(bits(&plain.state().weights), bits(&validated.state().weights));
    assert_eq!(bits(&plain.state().ema), bits(&validated.state().ema));
    assert!(none.is_empty());
    assert_eq!(records.iter().map(|r| r.step).collect::<Vec<_>>(), [3, 6, 7], "every third step, and the last");
    for r in &records {
        assert!((r.loss - r.mse.unwrap() - r.vb.unwrap()).abs() < 1e-6 * r.loss, "{r:?}");
    }
}

#[test]
fn the_same_weights_give_the_same_figures_whatever_the_batch() {
    let dir = with_videos();
    // With a learning rate of 0, every validation measures the initial weights.
    let still = ["optimizer.learning_rate=0", "optimizer.weight_decay=0", "validation.fraction=0.4"];
    let run = |name: &str, more: &[&str]| figures(&train(dir.path(), name, &[&SHORT[..], &still, more].concat()).1);
    let one = run("one", &[]);
    let of = |figures: &[(u64, f64, Option<f64>, Option<f64>)]| figures.iter().map(|f| (f.1, f.2, f.3)).collect::<Vec<_>>();
    assert!(of(&one).windows(2).all(|w| w[0] == w[1]), "{one:?}");
    for (name, more) in [("batch", "train.batch_size=1"), ("joint", "data.joint_images=2")] {
        for (a, b) in run(name, &[more]).iter().zip(&one) {
            assert!((a.1 - b.1).abs() < 1e-6 * b.1, "{name}: {a:?} {b:?}");
        }
    }
    // The validation's own seed decides windows and noise, not the run's.
    assert_ne!(of(&run("seed", &["validation.seed=1"])), of(&one));
    // The loss is recorded without the weights of `train.min_snr_gamma`.
    assert_eq!(of(&run("weighted", &["train.min_snr_gamma=5"])), of(&one));
}

#[test]
fn a_resumed_run_validates_as_an_uninterrupted_one() {
    let dir = with_videos();
    let options = [&SHORT[1..], &["validation.fraction=0.4", "output.checkpoint_every=5"]].concat();
    let (_, straight) = train(dir.path(), "straight", &[&options[..], &["train.max_steps=12"]].concat());
    struct StopAt<'a>(u64, &'a CancelToken);
    impl Progress for StopAt<'_> {}
    impl TrainingProgress for StopAt<'_> {
        fn step(&mut self, event: &latte_train::StepEvent) {
            if event.record.step == self.0 {
                self.1.cancel();
            }
        }
    }
    let stop = CancelToken::new();
    let twelve = [&options[..], &["train.max_steps=12"]].concat();
    let mut first = Trainer::open(class(config(dir.path(), "broken", &twelve)).unwrap(), Start::Fresh).unwrap();
    first.run(&stop, &mut StopAt(8, &stop)).unwrap();
    drop(first);
    // As if it had been killed after the validation of step 9, before its checkpoint.
    let log = dir.path().join("broken/validation.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.clone() + &text.lines().last().unwrap().replace("\"step\":6", "\"step\":9") + "\n{\"st").unwrap();
    let (_, resumed) = train(dir.path(), "broken", &twelve);
    assert_eq!(figures(&resumed), figures(&straight));
    assert_eq!(resumed.iter().map(|r| r.step).collect::<Vec<_>>(), [3, 6, 9, 12]);
}

#[test]
fn held_out_videos_are_never_trained_on() {
    let dir = with_videos();
    let config = config(dir.path(), "run", &["validation.fraction=0.4", "data.joint_images=3"]);
    let all = list_data(&config).unwrap().dataset;
    let training = open_data(&config).unwrap();
    let held = training.held_out.as_ref().unwrap();
    assert_eq!(all.items.len(), 6);
    assert_eq!(training.mark.num_videos + held.num_files(), 6);
    assert!(training.mark.num_videos >= 2 && held.num_files() >= 1);
    assert_eq!(training.source.num_files(), training.mark.num_videos);
    // Without validation the data set differs, and a resumed run reports this.
    let whole = open_data(&TrainConfig { validation: None, ..config.clone() }).unwrap();
    assert_ne!(whole.mark, training.mark);

    let refuse = |overrides: &[&str], words: &str| {
        let message = class(self::config(dir.path(), "refused", overrides))
            .and_then(|task| Trainer::open(task, Start::Auto))
            .unwrap_err()
            .to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{words}: {message}");
        assert!(!dir.path().join("refused").exists());
    };
    refuse(&["validation.fraction=0.000001"], "none of them");
    refuse(&["validation.path=/nowhere/at/all"], "/nowhere/at/all");
    std::fs::rename(dir.path().join("other/down"), dir.path().join("other/up")).unwrap();
    let other = format!("validation.path={}", dir.path().join("other").display());
    refuse(&[&other], "its classes are not those of the training data");
}

#[test]
fn bad_videos_are_skipped_and_named_once() {
    let dir = with_videos();
    std::fs::write(dir.path().join("other/down/broken.mp4"), b"no video").unwrap();
    struct Warnings(Vec<String>);
    impl Progress for Warnings {
        fn warning(&mut self, message: &str) {
            self.0.push(message.to_string());
        }
    }
    impl TrainingProgress for Warnings {}
    let other = format!("validation.path={}", dir.path().join("other").display());
    let many = ["train.max_steps=2", "validation.every=1", "validation.clips=20", "validation.timesteps=1", &other];
    let mut warnings = Warnings(Vec::new());
    Trainer::open(class(config(dir.path(), "run", &many)).unwrap(), Start::Auto)
        .unwrap()
        .run(&CancelToken::new(), &mut warnings)
        .unwrap();
    assert_eq!(warnings.0.len(), 1, "{:?}", warnings.0);
    assert!(warnings.0[0].contains("broken.mp4"), "{:?}", warnings.0);
}
