//! Caches and output folders that cannot be written.

use std::fs;
use std::path::PathBuf;

use crate::place::text;
use crate::{case, names, tiny_t2v};

#[test]
fn a_cache_that_cannot_be_used_is_one_warning() {
    let place = case("readonly-cache");
    let model = tiny_t2v();
    let args = ["t2v", "--model", &model, "--prompt", "a", "--steps", "2", "--frames", "2", "--size", "32x32", "--out"];
    place.ok(&[&args[..], &["whole"]].concat());
    let video = fs::read(place.path("whole/a_seed0.mp4")).unwrap();
    fs::write(place.path("file"), "no folder").unwrap();
    // There is a file in the place of the folder for text or latents.
    for part in ["text", "latents"] {
        fs::create_dir(place.path(&format!("no-{part}"))).unwrap();
        fs::write(place.path(&format!("no-{part}/{part}")), "no folder").unwrap();
    }
    let caches: [PathBuf; 5] = [
        place.path("file/cache"),
        place.path("no-text"),
        place.path("no-latents"),
        // Not even root can create a folder there.
        "/proc/cache".into(),
        "/dev/null/cache".into(),
    ];
    for (n, cache) in caches.iter().enumerate() {
        let out = format!("out{n}");
        let output = place.command(&[&args[..], &[&out]].concat()).env("LATTE_CACHE", cache).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", cache.display());
        assert_eq!(stderr.matches("warning: ").count(), 1, "{}: {stderr}", cache.display());
        assert!(stderr.contains(&cache.display().to_string()) && stderr.contains("--no-cache"), "{stderr}");
        assert_eq!(fs::read(place.path(&out).join("a_seed0.mp4")).unwrap(), video, "{}", cache.display());
    }
}

#[test]
fn a_damaged_cache_is_rebuilt() {
    let place = case("readonly-cache");
    let model = tiny_t2v();
    let make = |out: &str| {
        let args = ["t2v", "--model", &model, "--prompt", "a", "--steps", "2", "--frames", "2", "--size", "32x32", "--out", out];
        let (_, stderr) = place.both(&args);
        assert!(!stderr.contains("warning"), "{stderr}");
        fs::read(place.path(out).join("a_seed0.mp4")).unwrap()
    };
    let video = make("whole");
    let kept: Vec<PathBuf> = names(&place.path("cache/text")).iter().map(|name| place.path("cache/text").join(name)).collect();
    let whole: Vec<Vec<u8>> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(kept.len(), 2);
    let damages: [fn(&mut Vec<u8>); 4] = [
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes.last_mut().unwrap() ^= 0x40,
        |bytes| {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        },
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        for (path, bytes) in kept.iter().zip(&whole) {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(make(&format!("damaged{n}")), video);
        let again: Vec<Vec<u8>> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(again == whole, "damage {n} was not mended");
    }
}

#[test]
fn an_output_folder_is_checked_before_any_work() {
    let place = case("class-file-names");
    place.ok(&["train", "--config", "tiny.toml"]);
    let model = tiny_t2v();
    fs::write(place.path("file"), "no folder").unwrap();
    for out in ["file", "file/below", "/proc/out", "/dev/null/out"] {
        // With so many steps the work would take minutes.
        let t2v =
            ["t2v", "--model", &model, "--prompt", "a", "--steps", "900", "--frames", "16", "--size", "256x256", "--out", out];
        let sample = ["sample", "--checkpoint", "run", "--steps", "900", "--num", "500", "--out", out];
        for args in [&t2v[..], &sample] {
            let lines = place.refusal(args);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains(&format!("{out}: cannot be written to")), "{lines:?}");
        }
    }
    assert!(!place.path("cache").exists(), "nothing was encoded");
}
