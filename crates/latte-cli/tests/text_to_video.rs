//! Runs `latte t2v` with the built program, on the tiny model with random weights.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use latte_video::{Decoder, Video};
use tempfile::TempDir;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v")
}

fn latte(place: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latte"))
        .current_dir(place.path())
        .env("LATTE_CACHE", place.path().join("cache"))
        .env_remove("RUST_BACKTRACE")
        .arg("t2v")
        .args(args)
        .output()
        .unwrap()
}

/// With the tiny model, few steps and few frames.
fn tiny(place: &TempDir, more: &[&str]) -> Output {
    let folder = model();
    let mut args = vec!["--model", folder.to_str().unwrap(), "--frames", "4", "--size", "64x64", "--steps", "3"];
    for option in ["--frames", "--size", "--steps"] {
        if more.contains(&option) {
            let at = args.iter().position(|arg| *arg == option).unwrap();
            args.drain(at..at + 2);
        }
    }
    args.extend(more);
    latte(place, &args)
}

/// Runs and expects success; returns the paths that were printed.
fn made(place: &TempDir, output: &Output) -> Vec<PathBuf> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| place.path().join(line)).collect()
}

fn assert_same(a: &Path, b: &Path) {
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{} and {} differ", a.display(), b.display());
}

fn refused(output: &Output, part: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.starts_with("error: ") && stderr.contains(part), "{stderr}");
}

#[test]
fn a_prompt_becomes_a_video_that_its_sidecar_makes_again() {
    let place = TempDir::new().unwrap();
    let files = made(&place, &tiny(&place, &["--prompt", "a cat", "--seed", "7", "--out", "one"]));
    assert_eq!(files.len(), 2);
    assert!(files[0].ends_with("one/a_cat_seed7.mp4") && files[1].ends_with("one/a_cat_seed7.json"), "{files:?}");
    let video = Video::open(&files[0], Decoder::Auto).unwrap();
    let info = video.info().to_string();
    assert!(info.contains("64") && info.contains('4'), "{info}");
    // In another folder, from the sidecar alone, without a cache.
    let again = made(&place, &latte(&place, &["--from", "one/a_cat_seed7.json", "--out", "two", "--no-cache"]));
    assert_same(&files[0], &again[0]);
    assert_same(&files[1], &again[1]);
    refused(&latte(&place, &["--from", "one/a_cat_seed7.mp4"]), "a_cat_seed7.mp4");
    refused(&latte(&place, &["--from", "none.json"]), "none.json");
}

#[test]
fn other_videos_do_not_matter() {
    let place = TempDir::new().unwrap();
    let three = ["--prompt", "a cat", "--prompt", "A longer text about a dog in the sea", "--num", "2", "--out", "many"];
    let many = made(&place, &tiny(&place, &three));
    assert_eq!(many.len(), 8);
    let alone = made(&place, &tiny(&place, &["--prompt", "a cat", "--seed", "1", "--out", "alone", "--no-cache"]));
    let same = many.iter().find(|path| path.file_name() == alone[0].file_name()).unwrap();
    assert_same(same, &alone[0]);
    assert!(std::fs::read(&many[0]).unwrap() != std::fs::read(&many[2]).unwrap(), "two seeds, one video");
}

#[test]
fn encoded_prompts_are_cached_and_damaged_ones_encoded_again() {
    let place = TempDir::new().unwrap();
    let first = made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "one"]));
    let kept: Vec<PathBuf> = std::fs::read_dir(place.path().join("cache/text")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "the prompt and the negative prompt");
    let second = made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "two"]));
    assert_same(&first[0], &second[0]);
    for path in &kept {
        std::fs::write(path, b"damaged").unwrap();
    }
    let third = made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "three"]));
    assert_same(&first[0], &third[0]);
    assert!(kept.iter().all(|path| std::fs::metadata(path).unwrap().len() > 100), "made again, kept again");
}

#[test]
fn an_interrupted_run_resumes_from_its_latents() {
    let place = TempDir::new().unwrap();
    let files = made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "one"]));
    let latents = place.path().join("cache/latents");
    assert_eq!(std::fs::read_dir(&latents).unwrap().count(), 0, "nothing is left once the video is there");
    // A folder is in the place of the second run's video, so the run fails after denoising.
    let blocked = place.path().join("two/a_cat_seed0.mp4");
    std::fs::create_dir_all(&blocked).unwrap();
    assert!(!tiny(&place, &["--prompt", "a cat", "--out", "two"]).status.success());
    let left: Vec<PathBuf> = std::fs::read_dir(&latents).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left.len(), 1);
    // A proof that they are read: with another video's latents in their place, that video is generated.
    let other = made(&place, &tiny(&place, &["--prompt", "a cat", "--seed", "1", "--out", "other"]));
    let blocked_too = place.path().join("two/a_cat_seed1.mp4");
    std::fs::create_dir_all(&blocked_too).unwrap();
    assert!(!tiny(&place, &["--prompt", "a cat", "--seed", "1", "--out", "two"]).status.success());
    let mut both = std::fs::read_dir(&latents).unwrap().map(|e| e.unwrap().path());
    let of_other = both.find(|path| *path != left[0]).unwrap();
    let own = std::fs::read(&left[0]).unwrap();
    std::fs::rename(of_other, &left[0]).unwrap();
    std::fs::remove_dir(&blocked).unwrap();
    assert_same(&other[0], &made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "two"]))[0]);
    std::fs::write(&left[0], own).unwrap();
    let again = made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "two"]));
    assert_same(&files[0], &again[0]);
    assert!(!left[0].exists());
}

#[test]
fn options_change_what_they_say() {
    let place = TempDir::new().unwrap();
    let base = std::fs::read(&made(&place, &tiny(&place, &["--prompt", "a cat", "--out", "base"]))[0]).unwrap();
    // Not euler, because without noise and on the same timesteps it equals DDIM.
    for (n, more) in [
        &["--guidance", "1"][..],
        &["--negative", "a dog"],
        &["--sampler", "heun"],
        &["--sampler", "dpm++", "--sampler-option", "use_karras_sigmas=true"],
        &["--sampler", "ddpm"],
        &["--eta", "1"],
        &["--steps", "2"],
        &["--temporal-decoder", "off"],
        &["--no-temporal-attention"],
        &["--compat-masking"],
        &["--fps", "4"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("changed{n}");
        let args = [&["--prompt", "a cat", "--out", &out][..], more].concat();
        let changed = std::fs::read(&made(&place, &tiny(&place, &args))[0]).unwrap();
        assert!(base != changed, "{more:?} changed nothing");
    }
}

#[test]
fn tiles_are_in_the_sidecar_and_only_for_single_frames() {
    let place = TempDir::new().unwrap();
    let whole = made(&place, &tiny(&place, &["--prompt", "a cat", "--temporal-decoder", "off", "--out", "whole"]));
    let tiles = ["--prompt", "a cat", "--temporal-decoder", "off", "--tile", "16", "--out", "tiles"];
    let tiled = made(&place, &tiny(&place, &tiles));
    let sidecar = |files: &[PathBuf]| serde_json::from_slice::<serde_json::Value>(&std::fs::read(&files[1]).unwrap()).unwrap();
    assert_eq!(sidecar(&tiled)["settings"]["tile"], 16);
    assert!(sidecar(&whole)["settings"]["tile"].is_null());
    let again = made(&place, &latte(&place, &["--from", "tiles/a_cat_seed0.json", "--out", "again", "--no-cache"]));
    assert_same(&tiled[0], &again[0]);
    assert_same(&tiled[1], &again[1]);
    // The folder has a temporal decoder, which decodes clips unless it is turned off, but not single frames.
    refused(&tiny(&place, &["--prompt", "a cat", "--tile", "16"]), "temporal decoder");
    refused(&tiny(&place, &["--prompt", "a cat", "--temporal-decoder", "off", "--tile", "15"]), "tile");
    made(&place, &tiny(&place, &["--prompt", "a cat", "--frames", "1", "--tile", "16", "--out", "image"]));
}

#[test]
fn latents_of_an_interrupted_run_serve_another_decoder() {
    let place = TempDir::new().unwrap();
    let blocked = place.path().join("one/a_cat_seed0.mp4");
    std::fs::create_dir_all(&blocked).unwrap();
    assert!(!tiny(&place, &["--prompt", "a cat", "--out", "one"]).status.success());
    std::fs::remove_dir(&blocked).unwrap();
    let left = || std::fs::read_dir(place.path().join("cache/latents")).unwrap().count();
    assert_eq!(left(), 1);
    made(&place, &tiny(&place, &["--prompt", "a cat", "--temporal-decoder", "off", "--tile", "16", "--out", "one"]));
    assert_eq!(left(), 0, "they were found, and are gone with the video");
}

#[test]
fn one_frame_is_an_image_of_any_shape() {
    let place = TempDir::new().unwrap();
    let files = made(&place, &tiny(&place, &["--prompt", "a cat", "--frames", "1", "--size", "32x80"]));
    assert!(files[0].ends_with("samples/a_cat_seed0.png"), "{files:?}");
    let png = std::fs::read(&files[0]).unwrap();
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (80, 32), "width and height");
}

#[test]
fn a_scheduler_with_pythons_infinity_is_read() {
    let place = TempDir::new().unwrap();
    // diffusers writes it as a bare word, which JSON does not permit.
    let folder = place.path().join("model");
    for part in ["scheduler", "tokenizer", "text_encoder", "transformer", "vae", "vae_temporal_decoder"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        for file in std::fs::read_dir(model().join(part)).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, folder.join(part).join(file.file_name().unwrap())).unwrap();
        }
    }
    let config = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    std::fs::write(folder.join("scheduler/scheduler_config.json"), config).unwrap();
    let few = ["--frames", "2", "--size", "64x64", "--steps", "2", "--prompt", "a cat"];
    let args = [&["--model", "model", "--out", "one"][..], &few].concat();
    let files = made(&place, &latte(&place, &args));
    let again = made(&place, &latte(&place, &["--from", "one/a_cat_seed0.json", "--out", "two", "--no-cache"]));
    assert_same(&files[0], &again[0]);
}

#[test]
fn bad_input_is_one_line() {
    let place = TempDir::new().unwrap();
    refused(&tiny(&place, &["--prompt", "x", "--size", "60x64"]), "multiples of 16");
    refused(&tiny(&place, &["--prompt", "x", "--sampler", "nope"]), "dpm++");
    refused(&tiny(&place, &["--prompt", "x", "--steps", "0"]), "steps");
    refused(&tiny(&place, &["--prompt", "x", "--steps", "2000"]), "steps");
    refused(&tiny(&place, &["--prompt", "x", "--frames", "0"]), "frames");
    refused(&tiny(&place, &["--prompt", "x", "--guidance", "nan"]), "guidance");
    refused(&tiny(&place, &["--prompt", "x", "--sampler-option", "no_such_key=1"]), "no_such_key");
    refused(&tiny(&place, &[]), "--prompt");
    refused(&latte(&place, &["--model", "nowhere", "--prompt", "x"]), "nowhere");
    assert!(!place.path().join("samples").exists(), "a refused command leaves nothing behind");
}
