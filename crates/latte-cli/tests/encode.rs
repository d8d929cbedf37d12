//! Runs `latte encode` with the built program: training and sampling from caches, and caches that survive a kill.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../../latte-train/tests/run/kills.rs"]
mod kills;
mod place;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use latte_model::noise::TorchRng;
use place::Place;

/// A network on latents that trains in a moment.
const TINY: [&str; 11] = [
    "model.hidden_size=16",
    "model.depth=2",
    "model.num_heads=2",
    "model.patch_size=2",
    "autoencoder.kind=kl",
    "autoencoder.path=vae",
    "data.size=32",
    "data.num_frames=4",
    "data.decoder=built_in",
    "train.max_steps=2",
    "train.batch_size=2",
];

/// A folder with the demo's videos, one per class, in `clips`, and the tiny autoencoder in `vae`.
fn with_videos() -> Place {
    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    let vae = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/golden/tiny-latte-t2v/vae"));
    std::fs::create_dir(place.path("vae")).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        std::fs::copy(vae.join(file), place.path("vae").join(file)).unwrap();
    }
    place
}

fn with_config(command: &[&'static str], extra: &[&'static str]) -> Vec<&'static str> {
    let mut args = [command, &["--config", "clips/train.toml"]].concat();
    for setting in TINY.iter().chain(extra) {
        args.extend(["--set", setting]);
    }
    args
}

fn encode_args(extra: &[&'static str]) -> Vec<&'static str> {
    [with_config(&["encode"], &[]).as_slice(), extra].concat()
}

/// The names and contents of the files in a folder; empty for a missing folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let read = |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), std::fs::read(&path).ok()?));
    entries.filter_map(|entry| read(entry.ok()?.path())).collect()
}

#[test]
fn a_cache_is_made_inspected_trained_from_and_sampled_after() {
    let place = with_videos();
    let said = place.ok(&encode_args(&["--out", "latents", "--flips", "--file-videos", "3"]));
    assert!(said.contains("8 videos encoded") && said.contains("data.latents=latents"), "{said}");
    assert!(place.ok(&encode_args(&["--out", "latents", "--flips", "--file-videos", "3"])).contains("8 were there already"));
    let about = place.ok(&["inspect", "latents"]);
    for part in
        ["a latent cache", "8 of 8 classes, 192 frames", "32 × 32 pixels (resize_crop)", "8 × 4 × 4 of float32", "mirrored"]
    {
        assert!(about.contains(part), "{part}: {about}");
    }
    // The same without a configuration.
    let plain = ["encode", "--path", "clips/videos", "--vae", "vae", "--size", "32", "--out", "plain", "--file-videos", "3"];
    place.ok(&[&plain[..], &["--flips", "--set", "data.decoder=built_in"]].concat());
    let files = |name: &str| {
        let mut files = contents(&place.path(name));
        assert!(files.remove("latents.jsonl").is_some());
        files
    };
    assert_eq!(files("plain"), files("latents"));

    std::fs::rename(place.path("clips/videos"), place.path("gone")).unwrap();
    place.ok(&with_config(&["train"], &["data.latents=latents", "data.flip=true", "output.run=run"]));
    let line = place.refused(&with_config(&["train"], &["data.latents=latents", "data.size=64"]));
    assert!(line.contains("latents") && line.contains("32 × 32") && line.contains("64 × 64"), "{line}");
    assert!(place.ok(&["inspect", "run"]).contains("vae (SHA-256 "));

    // The checkpoint has the path of its autoencoder; another path can be given.
    let sample = ["sample", "--checkpoint", "run", "--class", "up_red_square", "--steps", "2", "--format", "png", "--out"];
    place.ok(&[&sample[..], &["remembered"]].concat());
    std::fs::rename(place.path("vae"), place.path("moved")).unwrap();
    let line = place.refused(&[&sample[..], &["none"]].concat());
    assert!(line.contains("the autoencoder of its training was vae") && line.contains("--vae"), "{line}");
    place.ok(&[&sample[..], &["named", "--vae", "moved"]].concat());
    let frames = |name: &str| contents(&place.path(name).join("up_red_square_seed0"));
    assert!(frames("remembered").len() == 4 && frames("remembered") == frames("named"));
    // An autoencoder with another shape cannot be the right one.
    let config = std::fs::read_to_string(place.path("moved/config.json")).unwrap();
    std::fs::write(place.path("moved/config.json"), config.replace("\"latent_channels\": 4", "\"latent_channels\": 6")).unwrap();
    let line = place.refused(&[&sample[..], &["none", "--vae", "moved"]].concat());
    assert!(line.contains("moved"), "{line}");
}

#[test]
fn what_cannot_be_encoded_is_one_line() {
    let place = with_videos();
    let line = place.refused(&["encode", "--config", "clips/train.toml", "--out", "x"]);
    assert!(line.contains("autoencoder.kind") && line.contains("kl"), "{line}");
    assert!(place.refused(&encode_args(&[])).contains("--out"));
    assert!(place.refused(&encode_args(&["--out", "x", "--shard", "5/4"])).contains("1 ≤ k ≤ n"));
    assert!(place.refused(&with_config(&["encode", "--out", "x"], &["autoencoder.path=none"])).contains("there is no none"));
    assert!(place.refused(&with_config(&["encode", "--out", "x"], &["data.size=36"])).contains("multiples of 8"));
    assert!(place.refused(&["inspect", "vae/none"]).contains("none"));
    assert!(!place.path("x").exists());
}

#[test]
fn the_loader_is_measured_in_one_json_line() {
    let place = with_videos();
    place.ok(&encode_args(&["--out", "latents"]));
    let measure = |extra: &[&'static str]| {
        let mut args = with_config(&["data", "bench"], extra);
        args.extend(["--clips", "9", "--threads", "2"]);
        let line = place.ok(&args);
        assert_eq!(line.lines().count(), 1, "{line}");
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(report["clips_per_s"].as_f64() > Some(0.0) && report["clips"].as_u64() == Some(9), "{line}");
        assert_eq!((report["threads"].as_u64(), report["frames"].as_u64()), (Some(2), Some(4)));
        report["source"].as_str().unwrap().to_string()
    };
    assert_eq!(measure(&[]), "encoded");
    assert_eq!(measure(&["data.latents=latents"]), "latents");
    let pixels = ["data", "bench", "--config", "clips/train.toml", "--clips", "3"];
    assert!(place.ok(&pixels).contains("\"source\":\"pixels\""));
}

/// Kills with -9 at random moments, again and again: existing files are complete, and the result equals that of an undisturbed run.
#[test]
fn a_cache_that_is_killed_and_resumed_is_that_of_an_undisturbed_run() {
    const KILLS: usize = 20;
    let place = with_videos();
    let args = |out: &'static str| encode_args(&["--out", out, "--flips", "--file-videos", "1"]);
    let started = Instant::now();
    place.ok(&args("undisturbed"));
    let whole_run = started.elapsed();
    let expected = contents(&place.path("undisturbed"));
    assert_eq!(expected.len(), 9);

    let mut rng = TorchRng::new(20);
    let (mut kills, mut caches, mut in_between) = (0, 0, 0);
    while kills < KILLS {
        // From nothing to the complete cache, with as many kills as it takes.
        let _ = std::fs::remove_dir_all(place.path("killed"));
        let start = || place.command(&args("killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kills::until_done(whole_run, &mut rng, start, || {
            kills += 1;
            let left = contents(&place.path("killed"));
            for (name, bytes) in left.iter().filter(|(name, _)| !name.starts_with('.')) {
                assert!(expected.get(name) == Some(bytes), "{name} is not what an undisturbed run writes");
            }
            in_between += usize::from((1..expected.len()).contains(&left.len()));
        });
        caches += 1;
        let found = contents(&place.path("killed"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(found == expected, "the contents differ");
    }
    assert!(caches > 1 && in_between > 0, "{kills} kills, {caches} caches, {in_between} of them with a part of the files");
}
