//! Hooks and event files never end a run: samples, validation, scores and event files that fail are warnings, and hooks run after
//! the checkpoint of their step.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/bits.rs"]
mod bits;
mod run;
#[path = "run/weights.rs"]
mod weights;

use std::path::Path;

use bits::bits;
use latte_ops::CancelToken;
use latte_train::tasks::class;
use latte_train::{
    EvaluationRecord, Evaluator, Outcome, Progress, Scores, Stage, Start, StepEvent, TrainConfig, Trainer, TrainingProgress,
    ValidationRecord, read_evaluations, read_validation,
};
use weights::last_checkpoint;

const SAMPLES: [&str; 4] = ["train.max_steps=4", "samples.every=2", "samples.num=2", "samples.steps=2"];
const EVALUATION: &str = "evaluation={ detectors = [\"x\"], real_stride = 1, num = 2, steps = 1, every = 2 }";

fn with_videos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    dir
}

fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    run::config(&dir.join("data"), &dir.join(name), overrides)
}

/// Records the reports, in order.
#[derive(Debug, Default)]
struct Diary {
    events: Vec<(&'static str, u64)>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Progress for Diary {
    fn note(&mut self, message: &str) {
        self.notes.push(message.into());
    }

    fn warning(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}
impl TrainingProgress for Diary {
    fn step(&mut self, event: &StepEvent) {
        self.events.push(("step", event.record.step));
    }

    fn validation(&mut self, record: &ValidationRecord) {
        self.events.push(("validation", record.step));
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        self.events.push(("evaluation", record.step));
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        assert!(path.join("state.toml").is_file());
        self.events.push(("checkpoint", step));
    }

    fn samples(&mut self, step: u64, _: &Path) {
        self.events.push(("samples", step));
    }
}

fn train(config: TrainConfig) -> Diary {
    let mut diary = Diary::default();
    let outcome = Trainer::open(class(config).unwrap(), Start::Auto).unwrap().run(&CancelToken::new(), &mut diary).unwrap();
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    diary
}

/// Returns a score, or fails.
struct Moody {
    fails: bool,
    score: f64,
}

impl Evaluator for Moody {
    fn evaluate(&mut self, _: Vec<latte_video::Clip>) -> Result<Scores, Box<dyn std::error::Error + Send + Sync>> {
        if self.fails {
            Err("no taste".into())
        } else {
            Ok([("taste".to_string(), self.score), ("smell".to_string(), 1.0)].into())
        }
    }
}

fn train_evaluated(config: TrainConfig, evaluator: Moody) -> Diary {
    let mut diary = Diary::default();
    let mut trainer = Trainer::open(class(config).unwrap().with_evaluator(Box::new(evaluator)), Start::Auto).unwrap();
    trainer.run(&CancelToken::new(), &mut diary).unwrap();
    diary
}

#[test]
fn a_checkpoint_is_written_before_hooks_use_its_weights() {
    let dir = with_videos();
    let overrides =
        [&SAMPLES[..], &["output.checkpoint_every=2", "validation.path=data", "validation.every=2", EVALUATION]].concat();
    let mut config = config(dir.path(), "run", &overrides);
    config.validation.as_mut().unwrap().path = Some(dir.path().join("data"));
    let diary = train_evaluated(config, Moody { fails: false, score: 2.0 });
    let of = |step| [("checkpoint", step), ("validation", step), ("samples", step), ("evaluation", step)];
    let expected = [&[("step", 1), ("step", 2)][..], &of(2), &[("step", 3), ("step", 4)], &of(4)].concat();
    assert_eq!(diary.events, expected);
    assert!(diary.warnings.is_empty(), "{:?}", diary.warnings);
}

#[test]
fn missing_samples_of_the_newest_checkpoint_are_made_on_resume() {
    let dir = with_videos();
    let overrides = [&SAMPLES[..], &["output.checkpoint_every=2", "validation.every=2", EVALUATION]].concat();
    let config = || {
        let mut config = config(dir.path(), "run", &[&overrides[..], &["validation.path=x"]].concat());
        config.validation.as_mut().unwrap().path = Some(dir.path().join("data"));
        config
    };
    train_evaluated(config(), Moody { fails: false, score: 2.0 });
    let run = dir.path().join("run");
    // As after a kill between the last checkpoint and its hooks.
    std::fs::remove_dir_all(run.join("samples/step_0000004")).unwrap();
    for log in ["validation.jsonl", "evaluation.jsonl"] {
        let text = std::fs::read_to_string(run.join(log)).unwrap();
        std::fs::write(run.join(log), format!("{}\n", text.lines().next().unwrap())).unwrap();
    }
    let diary = train_evaluated(config(), Moody { fails: false, score: 2.0 });
    assert_eq!(diary.events, [("validation", 4), ("samples", 4), ("evaluation", 4)]);
    assert_eq!(read_validation(&run.join("validation.jsonl")).unwrap().iter().map(|r| r.step).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(read_evaluations(&run.join("evaluation.jsonl")).unwrap().iter().map(|r| r.step).collect::<Vec<_>>(), [2, 4]);
    // Then nothing remains to do.
    assert!(train_evaluated(config(), Moody { fails: false, score: 2.0 }).events.is_empty());
}

#[test]
fn noisy_samples_of_any_size_are_written_and_change_no_bit() {
    let dir = with_videos();
    // An untrained model generates noise, which H.264 cannot encode at its usual quality.
    let large = ["data.size=64", "model.patch_size=8"];
    let diary = train(config(dir.path(), "sampled", &[&SAMPLES[..], &large].concat()));
    assert!(diary.warnings.is_empty(), "{:?}", diary.warnings);
    assert!(diary.notes.iter().any(|note| note.contains("2 of 2 mp4 files are compressed more")), "{:?}", diary.notes);
    for step in [2, 4] {
        let folder = dir.path().join(format!("sampled/samples/step_000000{step}"));
        for file in ["down_seed0.mp4", "down_seed0.gif", "right_seed0.mp4", "contact_sheet.png"] {
            assert!(folder.join(file).is_file(), "{file}");
        }
    }
    train(config(dir.path(), "plain", &[&large[..], &["train.max_steps=4"]].concat()));
    let [sampled, plain] = ["sampled", "plain"].map(|name| last_checkpoint(&dir.path().join(name)));
    assert_eq!((sampled.run, bits(&sampled.state.weights)), (plain.run, bits(&plain.state.weights)));
}

#[test]
fn samples_and_events_that_cannot_be_written_are_warnings() {
    let dir = with_videos();
    let run = dir.path().join("run");
    std::fs::create_dir_all(&run).unwrap();
    // Files in the place of folders: nothing can be written there, as on a full disk.
    for name in ["samples", "tensorboard"] {
        std::fs::write(run.join(name), b"in the way").unwrap();
    }
    let every = [&SAMPLES[..], &["output.checkpoint_every=2"]].concat();
    let diary = train(config(dir.path(), "run", &every));
    let about = |what: &str| diary.warnings.iter().filter(|warning| warning.contains(what)).count();
    assert_eq!((about("step 2: samples could not be made"), about("step 4: samples could not be made")), (1, 1), "{diary:?}");
    assert_eq!(about("TensorBoard's event file cannot be written"), 1, "{diary:?}");
    assert_eq!(last_checkpoint(&run).run.step, 4);
    // Once the disk is writable, the samples of the newest checkpoint are made.
    for name in ["samples", "tensorboard"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    let diary = train(config(dir.path(), "run", &every));
    assert_eq!((diary.events, diary.warnings), (vec![("samples", 4)], vec![]));
    assert!(run.join("samples/step_0000004/contact_sheet.png").is_file());
}

#[test]
fn an_evaluator_that_fails_is_a_warning_and_a_score_that_is_no_number_is_left_out() {
    let dir = with_videos();
    let run = dir.path().join("run");
    let overrides = ["train.max_steps=4", "output.checkpoint_every=2", EVALUATION];
    let diary = train_evaluated(config(dir.path(), "run", &overrides), Moody { fails: true, score: 0.0 });
    assert_eq!(
        diary.warnings.iter().filter(|w| w.contains("could not be evaluated") && w.contains("no taste")).count(),
        2,
        "{diary:?}"
    );
    assert_eq!(last_checkpoint(&run).run.step, 4);
    let diary = train_evaluated(config(dir.path(), "run", &overrides), Moody { fails: false, score: f64::NAN });
    assert!(diary.warnings.len() == 1 && diary.warnings[0].contains("the score taste is NaN"), "{diary:?}");
    let records = read_evaluations(&run.join("evaluation.jsonl")).unwrap();
    assert_eq!(
        records.iter().map(|r| (r.step, r.scores.clone())).collect::<Vec<_>>(),
        [(4, [("smell".to_string(), 1.0)].into())]
    );
}

#[test]
fn a_stop_in_the_last_samples_is_a_stop() {
    struct StopAtFour<'a> {
        stop: &'a CancelToken,
        step: u64,
    }
    impl Progress for StopAtFour<'_> {
        fn stage(&mut self, stage: Stage, _: u64, _: u64) {
            if stage == Stage::Samples && self.step == 4 {
                self.stop.cancel();
            }
        }
    }
    impl TrainingProgress for StopAtFour<'_> {
        fn step(&mut self, event: &StepEvent) {
            self.step = event.record.step;
        }
    }
    let dir = with_videos();
    let stop = CancelToken::new();
    let mut trainer = Trainer::open(class(config(dir.path(), "run", &SAMPLES)).unwrap(), Start::Auto).unwrap();
    let outcome = trainer.run(&stop, &mut StopAtFour { stop: &stop, step: 0 }).unwrap();
    let checkpoint = dir.path().join("run/checkpoints/0000004");
    assert_eq!(outcome, Outcome::Stopped { step: 4, checkpoint });
}

#[test]
fn changed_settings_are_reported_on_resume() {
    let dir = with_videos();
    train(config(dir.path(), "run", &["train.max_steps=2"]));
    let diary = train(config(dir.path(), "run", &["train.max_steps=3", "optimizer.learning_rate=1e-3", "samples.guidance=2.0"]));
    let expected = ["optimizer.learning_rate: 0.003 → 0.001", "samples.guidance: not set → 2.0", "train.max_steps: 2 → 3"];
    let told: Vec<&str> = diary.notes.iter().filter_map(|note| note.strip_suffix(" (changed since the checkpoint)")).collect();
    assert_eq!(told, expected, "{diary:?}");
    assert!(diary.warnings.is_empty(), "{:?}", diary.warnings);
}

#[test]
fn a_run_of_days_is_reported_and_a_short_one_is_not() {
    let dir = with_videos();
    // This run takes days on the fastest machine; the test stops it early.
    struct StopAtFive<'a>(&'a CancelToken, Vec<String>);
    impl Progress for StopAtFive<'_> {
        fn warning(&mut self, message: &str) {
            self.1.push(message.into());
        }
    }
    impl TrainingProgress for StopAtFive<'_> {
        fn step(&mut self, event: &StepEvent) {
            if event.record.step == 5 {
                self.0.cancel();
            }
        }
    }
    let stop = CancelToken::new();
    let mut observer = StopAtFive(&stop, Vec::new());
    let long = config(dir.path(), "long", &["train.max_steps=1000000000000"]);
    Trainer::open(class(long).unwrap(), Start::Auto).unwrap().run(&stop, &mut observer).unwrap();
    let warnings = observer.1;
    assert!(warnings.len() == 1 && warnings[0].contains(" days") && warnings[0].contains("train.max_steps"), "{warnings:?}");
    assert!(train(config(dir.path(), "short", &["train.max_steps=5"])).warnings.is_empty());
}

#[test]
fn sub_folders_that_are_not_taken_as_classes_are_reported() {
    let dir = with_videos();
    let diary = train(config(dir.path(), "run", &["train.max_steps=1", "model.condition=none"]));
    let told = |w: &String| w.contains("2 sub-folders (down, right)") && w.contains("`model.condition`");
    assert!(diary.warnings.len() == 1 && told(&diary.warnings[0]), "{diary:?}");
    // A single folder is no class.
    std::fs::remove_dir_all(dir.path().join("data/down")).unwrap();
    assert!(train(config(dir.path(), "one", &["train.max_steps=1", "model.condition=none"])).warnings.is_empty());
}
