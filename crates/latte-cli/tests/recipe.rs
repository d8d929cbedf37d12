//! Runs `latte train` with the built program: dry runs, the original's configurations, validation.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use latte_train::{TrainConfig, read_validation};
use tempfile::TempDir;

/// A model that trains in a moment, in the run folder `run`.
const TINY: [&str; 8] = [
    "model.hidden_size=16",
    "model.depth=4",
    "model.num_heads=2",
    "data.num_frames=4",
    "data.frame_interval=3",
    "train.batch_size=2",
    "train.max_steps=3",
    "output.run=run",
];

fn latte(at: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latte")).current_dir(at).args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

/// Runs and expects success; returns standard output and standard error.
fn ok(at: &Path, args: &[&str]) -> (String, String) {
    let output = latte(at, args);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "latte {}: {err}", args.join(" "));
    (out, err)
}

fn train<'a>(config: &'a str, settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let settings = TINY.iter().chain(settings).flat_map(|setting| ["--set", setting]);
    ["train", "--config", config].into_iter().chain(settings).chain(more.iter().copied()).collect()
}

/// All paths below a folder.
fn everything(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// The number after `word` in the line that begins with `# title`.
fn number(out: &str, title: &str, word: &str) -> f64 {
    let line = out.lines().find(|l| l.starts_with(&format!("# {title}"))).unwrap_or_else(|| panic!("no {title}: {out}"));
    let rest = &line[line.find(word).unwrap_or_else(|| panic!("no {word}: {line}")) + word.len()..];
    rest.split_whitespace().next().unwrap().trim_end_matches(',').parse().unwrap_or_else(|_| panic!("{word}: {line}"))
}

#[test]
fn a_dry_run_prints_the_run_and_its_cost_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    ok(at, &["data", "demo", "clips", "--clips", "2"]);
    let before = everything(at);
    let (out, err) =
        ok(at, &train("clips/train.toml", &["train.gradient_accumulation_steps=2", "model.class_dropout=0.2"], &["--dry-run"]));
    assert_eq!(everything(at), before, "something was written");
    assert!(err.contains("nothing is written"), "{err}");

    // The output is the whole configuration, with the number of classes of the data.
    let config = TrainConfig::from_toml(&out, "printed", &[]).unwrap();
    assert_eq!((config.model.class_dropout, config.model.num_classes, config.train.max_steps), (0.2, Some(8), 3));
    let shapes = config.resolve_model(8).unwrap();
    let parameters = latte_model::model::Latte::new(shapes.clone()).unwrap().num_trainable();
    assert_eq!(number(&out, "model", "model ") as usize, parameters);
    assert_eq!(number(&out, "data", "data ") as usize, 16);
    // 16 videos, 4 clips per step.
    assert_eq!((number(&out, "epochs", "epochs "), number(&out, "epochs", "each at ")), (4.0, 4.0));
    let work = 3.0 * latte_model::model::Latte::new(shapes).unwrap().forward_flops(4, 0);
    assert!((number(&out, "work", "work ") / work - 1.0).abs() < 1e-6, "{work}");
    assert!(number(&out, "speed", "speed ") > 0.0);
    // The program alone, plus the four states of the network (weights, average, two moments).
    let memory = number(&out, "memory", "memory ");
    assert!((4.0..2000.0).contains(&memory), "{memory}");
    assert!(out.contains("steps of the whole network"), "{out}");

    let output = latte(at, &train("clips/train.toml", &["data.path=nowhere"], &["--dry-run"]));
    assert_eq!(output.status.code(), Some(2));
    // The same configuration trains.
    std::fs::write(at.join("printed.toml"), &out).unwrap();
    ok(at, &["train", "--config", "printed.toml"]);
    assert!(at.join("run/checkpoints/0000003").is_dir());
}

/// The original's file for FaceForensics, with another data set, autoencoder and length.
fn official(vae: &Path) -> String {
    let lines = [
        "dataset: \"ffs\"",
        "data_path: \"clips/videos\"",
        &format!("pretrained_model_path: \"{}\"", vae.display()),
        "results_dir: \"./results\"",
        "pretrained:",
        "model: Latte-S/2",
        "num_frames: 4",
        "image_size: 32",
        "num_sampling_steps: 250",
        "frame_interval: 3",
        "fixed_spatial: False",
        "attention_bias: True",
        "learn_sigma: True # important",
        "extras: 1",
        "save_ceph: True",
        "learning_rate: 1e-4",
        "ckpt_every: 10000",
        "clip_max_norm: 0.1",
        "start_clip_iter: 20000",
        "local_batch_size: 2",
        "max_train_steps: 2",
        "global_seed: 3407",
        "num_workers: 2",
        "log_every: 100",
        "lr_warmup_steps: 0",
        "resume_from_checkpoint:",
        "gradient_accumulation_steps: 1 # TODO",
        "num_classes:",
        "use_compile: False",
        "mixed_precision: False",
        "enable_xformers_memory_efficient_attention: False",
        "gradient_checkpointing: True",
    ];
    lines.join("\n") + "\n"
}

#[test]
fn a_configuration_of_the_original_trains_and_each_key_is_reported() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    ok(at, &["data", "demo", "clips", "--clips", "1"]);
    // A folder with the autoencoder as `vae`.
    let vae = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v");
    let text = official(&vae);
    std::fs::write(at.join("ffs_train.yaml"), &text).unwrap();
    let small = ["--set", "model.depth=2", "--set", "model.hidden_size=16", "--set", "model.num_heads=2"];
    let (_, err) = ok(at, &[&["train", "--config", "ffs_train.yaml"], &small[..]].concat());
    for line in text.lines() {
        let key = line.split(':').next().unwrap();
        assert_eq!(err.lines().filter(|l| l.starts_with(&format!("  {key}:"))).count(), 1, "{key}: {err}");
    }
    let run = at.join("results/Latte-S-2-F4S3-ffs");
    let saved = TrainConfig::load(&run.join("checkpoints/0000002/config.toml"), &[]).unwrap();
    assert_eq!((saved.data.layout.to_string().as_str(), saved.data.flip, saved.model.depth), ("faceforensics", true, Some(2)));
    assert_eq!(saved.train.activation_checkpointing, latte_train::ActivationCheckpointing::Block);

    std::fs::write(at.join("bad.yml"), text.replace("ckpt_every", "checkpoint_every")).unwrap();
    let output = latte(at, &["train", "--config", "bad.yml", "--dry-run"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && err.contains("bad.yml: checkpoint_every: unknown key"), "{err}");
}

#[test]
fn a_run_is_validated_on_videos_that_it_does_not_train_on() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    ok(at, &["data", "demo", "clips", "--clips", "4"]);
    let validated = ["validation.fraction=0.2", "validation.every=2", "validation.clips=3", "validation.timesteps=2"];
    let (_, err) = ok(at, &train("clips/train.toml", &validated, &[]));
    assert_eq!(err.matches("validation loss").count(), 2, "{err}");
    let records = read_validation(&at.join("run/validation.jsonl")).unwrap();
    assert_eq!(records.iter().map(|r| r.step).collect::<Vec<_>>(), [2, 3]);
    let videos = err.split("data: ").nth(1).and_then(|t| t.split(' ').next()).and_then(|n| n.parse::<usize>().ok()).unwrap();
    assert!((16..32).contains(&videos), "{videos} of 32 videos are left to train on");
}
