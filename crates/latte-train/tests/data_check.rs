//! `check_data` reports that a run can train if and only if it trains.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/mod.rs"]
mod run;

use std::fs;
use std::path::Path;

use latte_ops::CancelToken;
use latte_train::tasks::class;
use latte_train::{NoProgress, Start, TrainConfig, Trainer, check_data};
use latte_video::dataset::{ScanOptions, Severity, update_index};
use latte_video::{Clip, Decoder, encode};
use proptest::prelude::*;

const OPTIONS: ScanOptions = ScanOptions { decoder: Decoder::BuiltIn, hash: false, last_frame: true, threads: 1 };

/// The errors that `check_data` reports.
fn errors(config: &TrainConfig) -> Vec<String> {
    let found = check_data(config, OPTIONS, &mut NoProgress).unwrap().diagnostics;
    found.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error).map(|diagnostic| diagnostic.what).collect()
}

/// Trains for one step, with validation.
fn train(config: TrainConfig) -> Result<(), String> {
    let mut trainer = class(config).and_then(|task| Trainer::open(task, Start::Fresh)).map_err(|e| e.to_string())?;
    trainer.run(&CancelToken::new(), &mut NoProgress).map(drop).map_err(|e| e.to_string())
}

/// The possible contents of a class folder.
#[derive(Debug, Clone, Copy)]
enum Thing {
    Video,
    Short,
    Small,
    Broken,
    Frames,
    FewFrames,
    MisnamedFrames,
    Sheet,
    Text,
    EmptyFolder,
    NoUnicode,
    Control,
    DeadLink,
}

use Thing::{
    Broken, Control, DeadLink, EmptyFolder, FewFrames, Frames, MisnamedFrames, NoUnicode, Sheet, Short, Small, Text, Video,
};

const THINGS: [Thing; 13] =
    [Video, Short, Small, Broken, Frames, FewFrames, MisnamedFrames, Sheet, Text, EmptyFolder, NoUnicode, Control, DeadLink];

/// Videos to copy, because encoding one takes longest.
struct Stock(tempfile::TempDir);

impl Stock {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, frames, side) in [("long", 9, 16), ("short", 3, 16), ("small", 9, 24)] {
            let pixels = (0..frames * side * side * 3).map(|i| (i % 251) as u8).collect();
            let clip = Clip::new(pixels, [frames, side, side, 3], 8.0).unwrap();
            encode::write_mp4(dir.path().join(format!("{name}.mp4")), &clip, &encode::Mp4Options::default()).unwrap();
        }
        encode::write_png(dir.path().join("frame.png"), &[77; 16 * 16 * 3], 16, 16).unwrap();
        Self(dir)
    }

    fn copy(&self, name: &str, to: &Path) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(self.0.path().join(name), to).unwrap();
    }

    fn put(&self, thing: Thing, number: usize, folder: &Path) {
        let at = |name: &str| folder.join(name.replace('N', &number.to_string()));
        match thing {
            Video => self.copy("long.mp4", &at("N.mp4")),
            Short => self.copy("short.mp4", &at("N.mp4")),
            Small => self.copy("small.mp4", &at("N.mp4")),
            Control => self.copy("long.mp4", &at("a\u{1b}[31m\nN \u{feff}.mp4")),
            Broken => fs::write(at("N.mp4"), "no video").unwrap(),
            Text => fs::write(at("N.txt"), "no video").unwrap(),
            EmptyFolder => fs::create_dir(at("N")).unwrap(),
            Sheet => self.copy("frame.png", &at("sheetN.png")),
            Frames => (0..9).for_each(|i| self.copy("frame.png", &at(&format!("N/f{i}.png")))),
            FewFrames => (0..3).for_each(|i| self.copy("frame.png", &at(&format!("N/f{i}.png")))),
            MisnamedFrames => (0..9).for_each(|i| self.copy("frame.png", &at(&format!("N/f{i}.jpg")))),
            #[cfg(unix)]
            DeadLink => std::os::unix::fs::symlink("nowhere", at("N.mp4")).unwrap(),
            #[cfg(unix)]
            NoUnicode => {
                use std::os::unix::ffi::OsStrExt;
                let name = [b"\xFF", number.to_string().as_bytes(), b".mp4"].concat();
                self.copy("long.mp4", &folder.join(std::ffi::OsStr::from_bytes(&name)));
            }
            #[cfg(not(unix))]
            DeadLink | NoUnicode => {}
        }
    }

    /// Writes a tree of classes; the items of the first class lie in the root.
    fn write(&self, root: &Path, classes: &[Vec<Thing>]) {
        fs::create_dir_all(root).unwrap();
        for (class, things) in classes.iter().enumerate() {
            let folder = if class == 0 { root.to_path_buf() } else { root.join(format!("class{class}")) };
            fs::create_dir_all(&folder).unwrap();
            for (number, thing) in things.iter().enumerate() {
                self.put(*thing, number, &folder);
            }
        }
    }
}

fn config(root: &Path, settings: &[&str]) -> TrainConfig {
    let all =
        [&["train.max_steps=1", "train.batch_size=1", "train.gradient_accumulation_steps=1", "data.loader_threads=1"], settings]
            .concat();
    run::config(root, &root.with_extension("run"), &all)
}

fn thing() -> impl Strategy<Value = Thing> {
    // Half of them are intact.
    prop_oneof![
        Just(Video),
        Just(Frames),
        (0..THINGS.len()).prop_map(|at| THINGS[at]),
        (0..THINGS.len()).prop_map(|at| THINGS[at])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_check_says_whether_training_runs(
        classes in prop::collection::vec(prop::collection::vec(thing(), 0..4), 1..4),
        by_class in any::<bool>(), by_index in any::<bool>(), no_transform in any::<bool>(), counted in prop::option::of(1_usize..3),
        held_out in prop::option::of(Just(0.4))
    ) {
        let stock = Stock::new();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        stock.write(&root, &classes);
        let mut settings = vec![format!("model.condition={}", if by_class { "class" } else { "none" })];
        if no_transform {
            settings.push("data.transform=none".into());
        }
        if let Some(counted) = counted.filter(|_| by_class) {
            settings.push(format!("model.num_classes={counted}"));
        }
        if let Some(fraction) = held_out {
            settings.push(format!("validation={{ fraction = {fraction}, clips = 1, timesteps = 2, every = 1 }}"));
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let mut config = config(&root, &settings);
        if by_index {
            let file = dir.path().join("index.jsonl");
            if update_index(&config.data.location(), &file, OPTIONS, &mut NoProgress).is_ok() {
                config.data.index = Some(file);
            }
        }
        let (said, ran) = (errors(&config), train(config));
        prop_assert_eq!(said.is_empty(), ran.is_ok(), "{:?}: {:?}, {:?}", classes, said, ran);
    }
}

#[test]
fn a_class_without_videos_is_refused_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    run::write_videos(&root);
    assert_eq!(errors(&config(&root, &[])), Vec::<String>::new());
    fs::create_dir(root.join("notes")).unwrap();
    let said = errors(&config(&root, &[]));
    assert!(said.len() == 1 && said[0].contains("notes: no video in this folder, which is a class"), "{said:?}");
    assert_eq!(train(config(&root, &[])).unwrap_err(), said[0]);
    // Without classes in training, the folder does not matter.
    assert_eq!(errors(&config(&root, &["model.condition=none"])), Vec::<String>::new());
    train(config(&root, &["model.condition=none"])).unwrap();
}

/// A changed modification time alone excludes no video, neither here nor in training.
#[test]
fn files_that_were_touched_are_still_trained_on() {
    let (stock, dir) = (Stock::new(), tempfile::tempdir().unwrap());
    let (root, file) = (dir.path().join("data"), dir.path().join("index.jsonl"));
    stock.write(&root, &[vec![], vec![Video], vec![Video]]);
    let index = format!("data.index={}", file.display());
    let config = config(&root, &[&index]);
    update_index(&config.data.location(), &file, OPTIONS, &mut NoProgress).unwrap();
    for class in ["class1", "class2"] {
        let video = fs::File::options().append(true).open(root.join(class).join("0.mp4")).unwrap();
        video.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    assert_eq!(errors(&config), Vec::<String>::new());
    train(config.clone()).unwrap();
    for class in ["class1", "class2"] {
        fs::write(root.join(class).join("0.mp4"), "another").unwrap();
    }
    assert!(!errors(&config).is_empty() && train(config).is_err());
}

/// A video of another size is skipped, even the first one.
#[test]
fn without_a_transform_videos_of_the_right_size_are_trained_on() {
    let (stock, dir) = (Stock::new(), tempfile::tempdir().unwrap());
    let root = dir.path().join("data");
    stock.write(&root, &[vec![Small, Video]]);
    let config = |root: &Path| config(root, &["model.condition=none", "data.transform=none"]);
    assert_eq!(errors(&config(&root)), Vec::<String>::new());
    train(config(&root)).unwrap();
    let small = dir.path().join("small");
    stock.write(&small, &[vec![Small]]);
    assert!(errors(&config(&small))[0].contains("24 × 24"));
}

/// Half of the videos cannot be read and half are too short: none is left.
#[test]
fn several_faults_that_leave_nothing_are_an_error() {
    let (stock, dir) = (Stock::new(), tempfile::tempdir().unwrap());
    let root = dir.path().join("data");
    stock.write(&root, &[vec![Broken, Short]]);
    let said = errors(&config(&root, &["model.condition=none"]));
    assert!(said.iter().any(|what| what.contains("none of the 2 files gives a clip")), "{said:?}");
}
