//! The observable state of a run: event files, samples, status. This test has its own reader of event files.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/bits.rs"]
mod bits;
mod run;
#[path = "run/weights.rs"]
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bits::bits;
use latte_ops::CancelToken;
use latte_train::tasks::class;
use latte_train::{
    Checkpoint, Evaluator, NoProgress, Outcome, Phase, Progress, RunCondition, RunStatus, RunSummary, Scores, Stage, Start,
    StepEvent, TrainConfig, Trainer, TrainingProgress, read_evaluations, read_metrics,
};
use weights::last_checkpoint;

const SAMPLES: [&str; 4] = ["train.max_steps=6", "samples.every=2", "samples.num=3", "samples.steps=2"];

fn with_videos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    dir
}

fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    run::config(&dir.join("data"), &dir.join(name), overrides)
}

fn train(dir: &Path, name: &str, overrides: &[&str], observer: &mut dyn TrainingProgress, stop: &CancelToken) -> Outcome<()> {
    Trainer::open(class(config(dir, name, overrides)).unwrap(), Start::Auto).unwrap().run(stop, observer).unwrap()
}

fn train_to_the_end(dir: &Path, name: &str, overrides: &[&str]) {
    let outcome = train(dir, name, overrides, &mut NoProgress, &CancelToken::new());
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// CRC-32C bit by bit, masked as TensorBoard stores it.
fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc % 2 == 1 { (crc / 2) ^ 0x82f6_3b78 } else { crc / 2 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The records of a file, up to the first incomplete one.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while rest.len() >= 12 {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes(), "the checksum of a length");
        if rest.len() < length + 16 {
            break;
        }
        let data = &rest[12..12 + length];
        assert_eq!(rest[12 + length..16 + length], masked_crc(data).to_le_bytes(), "the checksum of a record");
        found.push(data.to_vec());
        rest = &rest[16 + length..];
    }
    found
}

#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a protocol buffer; numbers of four or eight bytes as bits.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    fn take(bytes: &mut &[u8], length: usize) -> Vec<u8> {
        let (taken, rest) = bytes.split_at(length);
        *bytes = rest;
        taken.to_vec()
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key % 8 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            kind => panic!("no field of kind {kind}"),
        };
        found.push((key / 8, field));
    }
    found
}

fn number(message: &[(u64, Field)], field: u64) -> u64 {
    match message.iter().find(|(number, _)| *number == field) {
        Some((_, Field::Number(value))) => *value,
        other => panic!("field {field}: {other:?}"),
    }
}

fn bytes(message: &[(u64, Field)], field: u64) -> Option<Vec<u8>> {
    match message.iter().find(|(number, _)| *number == field) {
        Some((_, Field::Bytes(value))) => Some(value.clone()),
        _ => None,
    }
}

/// Step, value, time.
type Scalar = (u64, f32, f64);
/// Step, width and height, the file.
type Picture = (u64, [u64; 2], Vec<u8>);

/// The contents of a folder of event files, by tag.
#[derive(Debug, Default)]
struct Events {
    scalars: BTreeMap<String, Vec<Scalar>>,
    images: BTreeMap<String, Vec<Picture>>,
    starts: Vec<u64>,
}

/// Reads event files as TensorBoard does: in the order of their names; a session start drops the events of its step and later ones.
fn events(folder: &Path) -> Events {
    let mut events = Events::default();
    for path in files(folder) {
        for (index, record) in records(&std::fs::read(path).unwrap()).into_iter().enumerate() {
            let event = fields(&record);
            let (time, step) = (f64::from_bits(number(&event, 1)), number(&event, 2));
            assert!(time > 1.5e9);
            if let Some(version) = bytes(&event, 3) {
                assert_eq!((index, version), (0, b"brain.Event:2".to_vec()));
            } else if let Some(log) = bytes(&event, 7) {
                assert_eq!((index, number(&fields(&log), 1)), (1, 1));
                events.starts.push(step);
                events.scalars.values_mut().for_each(|list| list.retain(|(of, ..)| *of < step));
                events.images.values_mut().for_each(|list| list.retain(|(of, ..)| *of < step));
            } else {
                for (_, value) in fields(&bytes(&event, 5).unwrap()) {
                    let Field::Bytes(value) = value else { panic!("no value") };
                    let value = fields(&value);
                    let tag = String::from_utf8(bytes(&value, 1).unwrap()).unwrap();
                    if let Some(image) = bytes(&value, 4) {
                        let image = fields(&image);
                        let size = [number(&image, 2), number(&image, 1)];
                        assert_eq!(number(&image, 3), 3);
                        events.images.entry(tag).or_default().push((step, size, bytes(&image, 4).unwrap()));
                    } else {
                        let value = f32::from_bits(number(&value, 2) as u32);
                        events.scalars.entry(tag).or_default().push((step, value, time));
                    }
                }
            }
        }
    }
    events
}

/// The events of a run of six steps are its log and its samples.
fn assert_complete(run: &Path) {
    let events = events(&run.join("tensorboard"));
    let log = read_metrics(&run.join("metrics.jsonl")).unwrap();
    assert_eq!(log.len(), 6);
    let tags: Vec<&str> = events.scalars.keys().map(String::as_str).collect();
    let expected_tags =
        ["speed/clips_per_s", "speed/steps_per_s", "train/grad_norm", "train/loss", "train/lr", "train/mse", "train/vb"];
    assert_eq!(tags, expected_tags);
    for record in &log {
        let expected = [
            record.clips_per_s,
            record.steps_per_s,
            record.grad_norm,
            record.loss,
            record.lr,
            record.parts.get("mse").unwrap(),
            record.parts.get("vb").unwrap(),
        ];
        for (tag, value) in expected_tags.iter().zip(expected) {
            let (step, found, time) = events.scalars[*tag][record.step as usize - 1];
            assert_eq!((step, found), (record.step, value as f32), "{tag}");
            // The reader of the log may lose the last bit.
            assert!((time - record.time).abs() < 1e-6, "{tag}: {time} {}", record.time);
        }
    }
    assert!(events.scalars.values().all(|list| list.len() == 6));
    let tags: Vec<&str> = events.images.keys().map(String::as_str).collect();
    assert_eq!(tags, ["samples/contact_sheet", "samples/down_seed0", "samples/down_seed1", "samples/right_seed0"]);
    for (tag, images) in &events.images {
        assert_eq!(images.iter().map(|(step, ..)| *step).collect::<Vec<_>>(), [2, 4, 6], "{tag}");
        for (step, size, bytes) in images {
            let name = tag.strip_prefix("samples/").unwrap();
            let kind = if name == "contact_sheet" { "png" } else { "gif" };
            let path = run.join(format!("samples/step_{step:07}/{name}.{kind}"));
            assert!(*bytes == std::fs::read(&path).unwrap(), "{}", path.display());
            if kind == "gif" {
                // 16 × 16 pixels would be too small to see.
                assert_eq!((*size, &bytes[..6]), ([64, 64], b"GIF89a".as_slice()));
            }
        }
    }
}

#[test]
fn a_watched_run_ends_with_the_same_bits_as_one_that_is_not() {
    let dir = with_videos();
    train_to_the_end(dir.path(), "watched", &SAMPLES);
    train_to_the_end(dir.path(), "plain", &["train.max_steps=6", "output.tensorboard=false"]);
    let [watched, plain] = ["watched", "plain"].map(|name| last_checkpoint(&dir.path().join(name)));
    assert_eq!(watched.run, plain.run, "generator, place in the data, step");
    let sets = |c: &Checkpoint<TrainConfig>| {
        let state = &c.state;
        [&state.weights, &state.ema, &state.first_moments, &state.second_moments].map(bits)
    };
    assert!(sets(&watched) == sets(&plain));
    assert_complete(&dir.path().join("watched"));
    let files = ["contact_sheet.png", "down_seed0.gif", "down_seed0.mp4", "down_seed1.gif", "down_seed1.mp4"];
    assert_eq!(names(&dir.path().join("watched/samples/step_0000004"))[..5], files);
    assert!(!dir.path().join("plain/samples").exists() && !dir.path().join("plain/tensorboard").exists());
}

#[test]
fn samples_are_those_of_the_averaged_weights_of_their_step() {
    let dir = with_videos();
    train_to_the_end(dir.path(), "run", &[&SAMPLES[..], &["output.checkpoint_every=2", "samples.seed=5"]].concat());
    let run = dir.path().join("run");
    let generator = latte::Generator::open(run.join("checkpoints/0000004")).unwrap().load().unwrap();
    let made = generator.generate(&latte::ClassRequest::class(1).seed(5).steps(2).enlarge(4)).unwrap();
    assert_eq!(made.name, "right_seed5");
    let again = dir.path().join("again.gif");
    latte_video::encode::write_gif(&again, &made.clip).unwrap();
    let gif = |step: u64| std::fs::read(run.join(format!("samples/step_{step:07}/right_seed5.gif"))).unwrap();
    assert!(gif(4) == std::fs::read(&again).unwrap());
    assert!(gif(4) != gif(2));
}

/// Sets the stop flag at the first event of a kind, and records the reports.
struct StopAt<'a> {
    /// Optimiser steps of this process and the earlier ones.
    step: u64,
    stop: &'a CancelToken,
    when: fn(&str, u64) -> bool,
    seen: Vec<(&'static str, u64)>,
}

impl<'a> StopAt<'a> {
    fn new(stop: &'a CancelToken, when: fn(&str, u64) -> bool) -> Self {
        Self { stop, when, step: 0, seen: Vec::new() }
    }

    fn happens(&mut self, what: &'static str, step: u64) {
        self.seen.push((what, step));
        if (self.when)(what, step) {
            self.stop.cancel();
        }
    }
}

impl Progress for StopAt<'_> {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        if stage == Stage::Samples {
            assert!(1 <= done && done <= total && total == 6, "{done} of {total}");
            self.happens("sampling", self.step);
        }
    }
}

impl TrainingProgress for StopAt<'_> {
    fn step(&mut self, event: &StepEvent) {
        self.step = event.record.step;
        self.happens("step", event.record.step);
    }

    fn samples(&mut self, step: u64, folder: &Path) {
        assert!(folder.join("contact_sheet.png").is_file());
        self.happens("samples", step);
    }
}

#[test]
fn a_stop_cuts_samples_short_and_they_are_made_on_resume() {
    let dir = with_videos();
    let stop = CancelToken::new();
    let mut observer = StopAt::new(&stop, |what, step| (what, step) == ("sampling", 4));
    let outcome = train(dir.path(), "run", &SAMPLES, &mut observer, &stop);
    assert!(matches!(outcome, Outcome::Stopped { step: 4, .. }), "{outcome:?}");
    assert_eq!(observer.seen.iter().filter(|seen| **seen == ("sampling", 4)).count(), 1, "stopped after one step");
    let run = dir.path().join("run");
    assert_eq!(names(&run.join("samples")), ["step_0000002"]);
    let stop = CancelToken::new();
    let mut observer = StopAt::new(&stop, |_, _| false);
    train(dir.path(), "run", &SAMPLES, &mut observer, &stop);
    observer.seen.retain(|(what, _)| *what != "sampling");
    assert_eq!(observer.seen, [("samples", 4), ("step", 5), ("step", 6), ("samples", 6)]);
    assert_eq!(events(&run.join("tensorboard")).starts, [1, 5]);
    assert_complete(&run);
}

#[test]
fn a_run_that_repeats_steps_has_each_step_once() {
    let dir = with_videos();
    let run = dir.path().join("run");
    let every = [&SAMPLES[..], &["output.checkpoint_every=3", "output.keep_last=9"]].concat();
    train_to_the_end(dir.path(), "run", &every);
    let before = std::fs::read(run.join("samples/step_0000006/right_seed0.gif")).unwrap();
    // As after a crash: the last checkpoint is missing, the event file ends within a record, and samples were unfinished.
    std::fs::remove_dir_all(run.join("checkpoints/0000006")).unwrap();
    let event_file = files(&run.join("tensorboard")).remove(0);
    let whole = std::fs::read(&event_file).unwrap();
    std::fs::write(&event_file, &whole[..whole.len() - 7]).unwrap();
    std::fs::create_dir_all(run.join("samples/.unfinished-0000006")).unwrap();
    drop(Trainer::open(class(config(dir.path(), "run", &every)).unwrap(), Start::Auto).unwrap());
    assert_eq!(names(&run.join("samples")), ["step_0000002"], "those of later steps are made again");
    assert_eq!(files(&run.join("tensorboard")).len(), 1, "who does nothing writes nothing");
    train_to_the_end(dir.path(), "run", &every);
    assert_eq!(events(&run.join("tensorboard")).starts, [1, 4]);
    assert_complete(&run);
    assert!(before == std::fs::read(run.join("samples/step_0000006/right_seed0.gif")).unwrap(), "the same noise and weights");
}

/// A score that falls by 1 in each round.
struct Counting(f64);

impl Evaluator for Counting {
    fn evaluate(&mut self, clips: Vec<latte_video::Clip>) -> Result<Scores, Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(clips.len(), 2);
        self.0 += 1.0;
        Ok([("taste".to_string(), 10.0 - self.0)].into())
    }
}

#[test]
fn scores_are_in_the_event_files_and_in_the_summary() {
    let dir = with_videos();
    let run = dir.path().join("run");
    let evaluation = "evaluation={ detectors = [\"x\"], real_stride = 1, num = 2, steps = 1, every = 2, at_start = true }";
    let evaluated = || {
        let config = config(dir.path(), "run", &["train.max_steps=5", "output.checkpoint_every=4", evaluation]);
        let task = class(config).unwrap().with_evaluator(Box::new(Counting(0.0)));
        let mut trainer = Trainer::open(task, Start::Auto).unwrap();
        let outcome = trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
        assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    };
    let expect = |expected: [(u64, f32); 4], last: (u64, f64)| {
        let events = events(&run.join("tensorboard"));
        let found: Vec<(u64, f32)> = events.scalars["evaluation/taste"].iter().map(|(step, value, _)| (*step, *value)).collect();
        assert_eq!(found, expected);
        let log = read_evaluations(&run.join("evaluation.jsonl")).unwrap();
        assert_eq!(log.iter().map(|record| (record.step, record.scores["taste"] as f32)).collect::<Vec<_>>(), expected);
        let score = RunSummary::read(&run).unwrap().scores["taste"];
        assert_eq!((score.last.step, score.last.value), last);
        assert_eq!((score.highest.step, score.highest.value), (0, 9.0));
    };
    evaluated();
    expect([(0, 9.0), (2, 8.0), (4, 7.0), (5, 6.0)], (5, 6.0));
    // The last step is repeated and evaluated again.
    std::fs::remove_dir_all(run.join("checkpoints/0000005")).unwrap();
    evaluated();
    expect([(0, 9.0), (2, 8.0), (4, 7.0), (5, 9.0)], (5, 9.0));
}

#[test]
fn samples_that_cannot_be_made_are_refused_before_anything_is_written() {
    let dir = with_videos();
    let refuse = |overrides: &[&str], words: &str| {
        let config = config(dir.path(), "run", &[&["samples.every=2"], overrides].concat());
        let error = class(config).and_then(|task| Trainer::open(task, Start::Auto)).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    refuse(&["samples.steps=1001"], "samples.steps: expected 1 to 1000");
    refuse(&["samples.guidance=3", "model.class_dropout=0"], "samples.guidance: this model was trained without class dropout");
    refuse(&["samples.guidance=3", "model.condition=none"], "samples.guidance: this model has no classes");
    assert!(!dir.path().join("run").exists());
    let unused = ["samples.guidance=3", "model.condition=none"];
    Trainer::open(class(config(dir.path(), "run", &unused)).unwrap(), Start::Auto).unwrap();
}

#[test]
fn one_process_trains_in_a_folder_and_says_how_it_ended() {
    let dir = with_videos();
    let run = dir.path().join("run");
    let condition = || RunSummary::read(&run).unwrap().condition;
    let stop = CancelToken::new();
    let mut first = Trainer::open(class(config(dir.path(), "run", &["train.max_steps=4"])).unwrap(), Start::Auto).unwrap();
    assert_eq!(condition(), RunCondition::Running);
    let second = class(config(dir.path(), "run", &[])).and_then(|task| Trainer::open(task, Start::Auto)).unwrap_err().to_string();
    assert!(second.contains("another process trains in this folder"), "{second}");
    struct AtTwo<'a>(&'a CancelToken, &'a Path);
    impl Progress for AtTwo<'_> {}
    impl TrainingProgress for AtTwo<'_> {
        fn step(&mut self, event: &StepEvent) {
            if event.record.step == 2 {
                self.0.cancel();
            }
            assert_eq!(RunStatus::read(self.1).unwrap().unwrap().phase, Phase::Running);
        }
    }
    first.run(&stop, &mut AtTwo(&stop, &run)).unwrap();
    drop(first);
    assert_eq!(condition(), RunCondition::Stopped);
    train_to_the_end(dir.path(), "run", &["train.max_steps=4"]);
    let status = RunStatus::read(&run).unwrap().unwrap();
    assert_eq!((status.phase, status.step, status.max_steps), (Phase::Finished, 4, 4));
    assert!(status.ended.unwrap() >= status.started);
    assert_eq!(condition(), RunCondition::Finished);
    let diverging = ["optimizer.learning_rate=1e30", "optimizer.warmup_steps=0"];
    let mut trainer = Trainer::open(class(config(dir.path(), "run", &diverging)).unwrap(), Start::Auto).unwrap();
    trainer.run(&CancelToken::new(), &mut NoProgress).unwrap_err();
    drop(trainer);
    assert_eq!(condition(), RunCondition::Diverged);
    assert!(RunSummary::read(&run).unwrap().what.unwrap().contains("optimizer.learning_rate"));
}
