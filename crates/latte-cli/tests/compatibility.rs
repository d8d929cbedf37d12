//! Files of an earlier latte can be read and resumed, and give the same next steps (`testdata/compatibility`).
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use std::fs;
use std::path::PathBuf;

use latte_model::weights::TensorSource;
use place::{Place, copy_folder, testdata};

/// The tolerance of a resumed step: the processor of the recording may have rounded differently.
const TOLERANCE: f64 = 1e-5;

fn old_files() -> Place {
    let place = Place::empty();
    copy_folder(&testdata("compatibility"), &place.path("."));
    copy_folder(&testdata("cases/check-and-train-disagree/clips"), &place.path("clips"));
    copy_folder(&testdata("golden/tiny-latte-t2v/vae"), &place.path("vae"));
    place
}

/// Resumes `run` with `args`, which change only `train.max_steps`, and compares steps 5 to 8 and the averaged weights with the
/// recorded ones.
fn same_next_steps(place: &Place, args: &[&str], run: &str, keys: &[&str]) {
    let output = place.command(args).env("LATTE_INSTRUCTION_SET", "portable").output().unwrap();
    let stderr = place::text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("checkpoints/0000004"), "{stderr}");
    // Old names of keys in the checkpoint are not reported as changes.
    let changed: Vec<&str> = stderr.lines().filter(|line| line.contains("changed since the checkpoint")).collect();
    assert!(changed.iter().all(|line| line.contains("train.max_steps")), "{stderr}");
    let read = |path: PathBuf| -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let steps = read(place.path(run).join("metrics.jsonl"));
    let expected = read(place.path("expected").join(format!("{run}.jsonl")));
    assert_eq!((steps.len(), expected.len()), (8, 4));
    for (step, expected) in steps[4..].iter().zip(&expected) {
        for key in keys {
            let (value, wanted) = (step[key].as_f64().unwrap(), expected[key].as_f64().unwrap());
            assert!((value - wanted).abs() <= TOLERANCE * wanted.abs(), "{run}: {key} is {value}, was {wanted}: {step}");
        }
    }
    let weights = latte_model::weights::load(&place.path(run).join("checkpoints/0000008/ema.safetensors")).unwrap().0;
    let wanted = latte_model::weights::load(&place.path("expected").join(format!("{run}-ema.safetensors"))).unwrap().0;
    assert_eq!(weights.names(), wanted.names());
    for name in wanted.names() {
        let (a, b) = (weights.f32_tensor(&name).unwrap(), wanted.f32_tensor(&name).unwrap());
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(difference <= 1e-5, "{run}: {name} differs by {difference}");
    }
}

#[test]
fn a_class_run_resumes_from_its_checkpoint_and_its_latents() {
    let place = old_files();
    // Old names of keys in the checkpoint, new ones in the configuration; those of the autoencoder are old in both.
    let mut text = fs::read_to_string(place.path("class.toml")).unwrap();
    let names = [
        ("clip_norm", "max_grad_norm"),
        ("accumulate", "gradient_accumulation_steps"),
        ("recompute", "activation_checkpointing"),
    ];
    for (old, new) in names {
        assert!(fs::read_to_string(place.path("run/checkpoints/0000004/config.toml")).unwrap().contains(&format!("\n{old} =")));
        text = text.replace(&format!("\n{old} ="), &format!("\n{new} ="));
    }
    fs::write(place.path("class.toml"), text).unwrap();
    let args = ["train", "--config", "class.toml", "--set", "data.latents=latents"];
    same_next_steps(&place, &args, "run", &["step", "loss", "mse", "vb", "grad_norm", "lr"]);
    let (stdout, _) = place.both(&["inspect", "run/checkpoints/0000004/ema.safetensors"]);
    assert!(stdout.contains("0 cat, 1 dog"), "{stdout}");
    // Values have the names that configurations use.
    assert!(
        stdout.contains("interleaved, ") && stdout.contains("predicts epsilon, variance learned_range, loss mse"),
        "{stdout}"
    );
}

#[test]
fn an_autoencoder_run_resumes_from_its_checkpoint() {
    let args = ["train-vae", "--config", "vae.toml"];
    same_next_steps(&old_files(), &args, "vae-run", &["step", "loss", "reconstruction", "kl", "grad_norm", "lr"]);
}

#[test]
fn a_new_cache_equals_the_old_one() {
    let place = old_files();
    let output = place
        .command(&["encode", "--config", "class.toml", "--out", "again"])
        .env("LATTE_INSTRUCTION_SET", "portable")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", place::text(&output.stderr));
    let moments =
        |folder: &str| latte_model::weights::WeightFiles::open(&place.path(folder).join("moments-00000-0.safetensors")).unwrap();
    let (new, old) = (moments("again"), moments("latents"));
    assert_eq!(new.names(), old.names());
    for name in old.names() {
        let (a, b) = (new.f32_tensor(&name).unwrap(), old.f32_tensor(&name).unwrap());
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(difference <= 1e-5, "{name} differs by {difference}");
    }
}
