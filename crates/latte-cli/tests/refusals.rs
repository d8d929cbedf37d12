//! With which exit code the program ends, for a refusal of each kind that every crate has: 2 where the user can mend it, 1 where the work
//! itself failed.
//!
//! Which variant has which code is tested in `src/failure.rs`. Not here: stops by a signal (`interrupt.rs`), devices (`device.rs`),
//! damaged videos (`data.rs`), values that are no numbers (`cases/nan_becomes_black.rs`), and outputs that cannot be written
//! (`outputs.rs`).
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use std::fs;

use candle_core::{Device, Tensor};
use latte_model::weights;
use latte_ops::Parameters;
use place::{Place, text};

const TRAIN: &[&str] = &[
    "train",
    "--config",
    "clips/train.toml",
    "--set",
    "output.run=run",
    "--set",
    "model.hidden_size=16",
    "--set",
    "model.depth=2",
    "--set",
    "model.num_heads=2",
    "--set",
    "model.patch_size=4",
    "--set",
    "data.size=8",
    "--set",
    "data.num_frames=4",
    "--set",
    "train.batch_size=2",
    "--set",
    "train.max_steps=2",
    "--set",
    "optimizer.warmup_steps=0",
];

/// Arguments, the exit code, and what the error says.
const COMMANDS: &[(&[&str], i32, &str)] = &[
    // Weights, and models of them.
    (&["inspect", "none"], 2, "none: "),
    (&["inspect", "text.safetensors"], 2, "text.safetensors: "),
    (&["sample", "--checkpoint", "newer.safetensors"], 2, "newer version"),
    (&["sample", "--checkpoint", "strange.safetensors"], 2, "x_embedder.proj.weight: expected shape [d, c, p, p], got [2]"),
    // Requests.
    (&["sample", "--checkpoint", "run", "--class", "bird", "--out", "o"], 2, "bird"),
    (&["sample", "--checkpoint", "run", "--steps", "0", "--out", "o"], 2, "steps"),
    // Clips that a format cannot hold.
    (&["sample", "--checkpoint", "run", "--steps", "1", "--num", "1", "--out", "o"], 2, "at least 16 × 16 pixels"),
    // Videos and data sets.
    (&["data", "index", "--path", "none", "--out", "i.jsonl"], 2, "none"),
    (&["data", "check", "--layout", "manifest", "--path", "no_column.csv"], 2, "no_column.csv, columns: "),
    (&["data", "frames", "--path", "clips/videos", "--out", "f", "--size", "0"], 2, "0"),
    // Configurations, runs and logs.
    (&["train", "--config", "none.toml"], 2, "none.toml: "),
    (&["train", "--config", "clips/train.toml", "--set", "optimizer.taste=1"], 2, "optimizer.taste"),
    (&["plot", "none"], 2, "no metrics.jsonl here"),
    (&["plot", "run", "--metric", "taste"], 2, "--metric taste: "),
    (&["plot", "broken"], 2, "line 1: "),
    // Evaluation, the demo and the self-test.
    (&["eval", "mmd", "--real", "text.npz", "--fake", "text.npz"], 2, "text.npz"),
    (&["eval", "mmd", "--real", "none.npz", "--fake", "none.npz"], 2, "none.npz"),
    (&["eval", "flicker", "--fake", "none"], 2, "none"),
    (&["demo", "--measure", "clips/other"], 2, "begins with a class of the demo"),
    (&["selftest", "--device", "cpu", "--golden", "none"], 2, "golden files: none: "),
];

#[test]
fn a_refusal_ends_with_the_code_of_its_kind() {
    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    place.ok(TRAIN);
    let pair = |name: &str| (name.to_string(), Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap());
    let strange: Parameters =
        ["x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "temp_embed"].map(pair).into_iter().collect();
    weights::save(&place.path("strange.safetensors"), &strange, None).unwrap();
    let newer = serde_json::json!({ "format": 1_000_000 });
    weights::save(&place.path("newer.safetensors"), &strange, Some(&newer)).unwrap();
    for folder in ["clips/other", "broken"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    for (name, content) in [
        ("text.safetensors", "no weights"),
        ("text.npz", "no archive"),
        ("no_column.csv", "title\nup\n"),
        ("broken/metrics.jsonl", "no record\n"),
        ("clips/other/holiday.mp4", ""),
    ] {
        fs::write(place.path(name), content).unwrap();
    }
    let diverging =
        [TRAIN, &["--set", "output.run=far", "--set", "train.max_steps=9", "--set", "optimizer.learning_rate=1e30"]].concat();
    for (args, code, expected) in COMMANDS.iter().copied().chain([(&diverging[..], 1, "optimizer.learning_rate")]) {
        let output = place.latte(args);
        let said = text(&output.stderr);
        let error = said.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "latte {}: {said}", args.join(" "));
        assert!(error.starts_with("error: ") && error.contains(expected), "latte {}: {said}", args.join(" "));
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// What the user asked for is not there, or what is there fails: the same command, and two codes.
#[cfg(unix)]
#[test]
fn a_program_that_is_missing_is_the_users_and_one_that_fails_is_not() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    fs::create_dir(place.path("programs")).unwrap();
    for name in ["ffmpeg", "ffprobe"] {
        let program = place.path("programs").join(name);
        fs::write(&program, "#!/bin/sh\necho no answer\nexit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (programs, code, expected) in [("none", 2, "ffprobe is not found"), ("programs", 1, "ffprobe's answer is not clear")] {
        let args = ["data", "frames", "--path", "clips/videos", "--out", "frames", "--decoder", "ffmpeg"];
        let output = place.command(&args).env("LATTE_FFMPEG", place.path(programs)).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected) && said.contains("error: 8 of 8 videos could not"), "{said}");
    }
}
