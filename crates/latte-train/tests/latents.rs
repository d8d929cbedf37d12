//! Training on latents, from pixels and from a latent cache; and the contents of a cache.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod run;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use latte_model::checkpoint::load_weights;
use latte_model::vae::AutoencoderKind;
use latte_ops::CancelToken;
use latte_train::tasks::{ClassTask, class};
use latte_train::{
    EncodeOptions, EncodeReport, LatentCache, Manifest, MomentDtype, NoProgress, Progress, Start, TrainConfig, Trainer,
    TrainingProgress, encode, read_metrics,
};

/// A folder with videos in `data` and the tiny autoencoder (8 × 8 pixels, 4 channels) in `vae`.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    let vae = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/golden/tiny-latte-t2v/vae"));
    std::fs::create_dir(dir.path().join("vae")).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        std::fs::copy(vae.join(file), dir.path().join("vae").join(file)).unwrap();
    }
    dir
}

/// The configuration of the other tests (four frames, mirrored at random), on latents of 4 × 4.
fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    let vae = format!("autoencoder.path={}", dir.join("vae").display());
    let all = [&["autoencoder.kind=kl", "data.size=32", "model.patch_size=2", "train.max_steps=3", vae.as_str()], overrides];
    run::config(&dir.join("data"), &dir.join(name), &all.concat())
}

fn train(config: TrainConfig) -> Trainer<ClassTask> {
    let mut trainer = Trainer::open(class(config).unwrap(), Start::Auto).unwrap();
    trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
    trainer
}

fn losses(dir: &Path, name: &str) -> Vec<u64> {
    read_metrics(&dir.join(name).join("metrics.jsonl")).unwrap().iter().map(|r| r.loss.to_bits()).collect()
}

fn options(dir: &Path, name: &str) -> EncodeOptions {
    EncodeOptions { flips: true, group_videos: NonZeroUsize::new(2).unwrap(), ..EncodeOptions::new(&dir.join(name)) }
}

fn encoded(config: &TrainConfig, options: &EncodeOptions) -> EncodeReport {
    encode(config, options, &mut NoProgress).unwrap()
}

fn refused(config: &TrainConfig, options: &EncodeOptions) -> String {
    let message = encode(config, options, &mut NoProgress).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// The names and contents of the files in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn a_cache_gives_the_losses_of_pixels_bit_for_bit_without_videos_and_weights() {
    let dir = place();
    let cache = format!("data.latents={}", dir.path().join("cache").display());
    let report = encoded(&config(dir.path(), "none", &[]), &options(dir.path(), "cache"));
    assert_eq!(report, EncodeReport { encoded: 6, found: 0, groups_left: 0, unreadable: 0 });
    let variants: [(&str, &[&str]); 4] = [
        ("sample", &[]),
        ("mean", &["autoencoder.posterior=mean"]),
        ("plain", &["data.flip=false", "model.condition=none", "data.frame_rule=linspace"]),
        ("joint", &["data.joint_images=3"]),
    ];
    let mut all = Vec::new();
    for (name, overrides) in variants {
        let from_pixels = train(config(dir.path(), name, overrides));
        all.push((name, overrides, losses(dir.path(), name), from_pixels.task().metadata().clone(), from_pixels.num_videos()));
    }
    // From here on, training can use neither videos nor the encoder.
    std::fs::rename(dir.path().join("data"), dir.path().join("no data")).unwrap();
    std::fs::rename(dir.path().join("vae"), dir.path().join("no vae")).unwrap();
    for (name, overrides, expected, card, num_videos) in &all {
        let cached = format!("{name} cached");
        let trainer = train(config(dir.path(), &cached, &[overrides, [cache.as_str()].as_slice()].concat()));
        assert_eq!(losses(dir.path(), &cached), *expected, "{name}");
        assert_eq!((trainer.task().metadata(), trainer.num_videos()), (card, *num_videos), "{name}");
    }
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a.2 != b.2), "{}: the losses of another variant", a.0);
    }
    // A run that began with pixels resumes from the cache with the same bits.
    let more = ["train.max_steps=5", "optimizer.decay=constant"];
    let longer = |name: &str| {
        let all = [more.as_slice(), &[cache.as_str()]].concat();
        let mut trainer = Trainer::open(class(config(dir.path(), name, &all)).unwrap(), Start::Auto).unwrap();
        let mut warnings = Warnings::default();
        trainer.run(&CancelToken::new(), &mut warnings).unwrap();
        assert_eq!(warnings.0, Vec::<String>::new());
        losses(dir.path(), name)
    };
    assert_eq!(longer("sample"), longer("sample cached"));
}

#[derive(Default)]
struct Warnings(Vec<String>);

impl Progress for Warnings {
    fn warning(&mut self, message: &str) {
        self.0.push(message.into());
    }
}
impl TrainingProgress for Warnings {}

#[test]
fn a_run_on_latents_learns_and_its_card_says_which_latents() {
    let dir = place();
    let trainer =
        train(config(dir.path(), "run", &["train.max_steps=60", "train.gradient_accumulation_steps=1", "model.hidden_size=32"]));
    let mse: Vec<f64> =
        read_metrics(&dir.path().join("run/metrics.jsonl")).unwrap().iter().map(|r| r.parts.get("mse").unwrap()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!(mean(&mse[50..]) < 0.9 * mean(&mse[..10]), "{} {}", mean(&mse[50..]), mean(&mse[..10]));
    let (_, card) = load_weights(&dir.path().join("run")).unwrap();
    assert_eq!((card.model.in_channels, card.model.input_size, card.frame_size), (4, [4, 4], [32, 32]));
    assert_eq!(card.autoencoder.kind, AutoencoderKind::Kl);
    assert_eq!(card.autoencoder.path.unwrap(), dir.path().join("vae"));
    let vae = card.vae.unwrap();
    assert_eq!((vae.config.scaling_factor, vae.sha256.len()), (0.18215, 64));
    drop(trainer);

    // Another autoencoder is refused; the same one in another folder is not.
    std::fs::rename(dir.path().join("vae"), dir.path().join("vae2")).unwrap();
    let moved = format!("autoencoder.path={}", dir.path().join("vae2").display());
    let open = |path: &str| {
        class(config(dir.path(), "run", &["train.max_steps=61", "model.hidden_size=32", path]))
            .and_then(|task| Trainer::open(task, Start::Resume))
    };
    open(&moved).unwrap();
    another_vae(&dir.path().join("vae2"));
    let message = open(&moved).unwrap_err().to_string();
    assert!(message.contains("the autoencoder is another one"), "{message}");
    let message = open("autoencoder.posterior=sample").unwrap_err().to_string();
    assert!(message.contains("autoencoder.path") && message.contains("there is no") && message.contains("vae"), "{message}");
}

/// Changes one value of the autoencoder in `folder`.
fn another_vae(folder: &Path) {
    let path = folder.join("diffusion_pytorch_model.safetensors");
    let (mut tensors, _) = latte_model::weights::load(&path).unwrap();
    let bias = (tensors.get("encoder.conv_in.bias").unwrap().to_host().unwrap() + 0.25).unwrap();
    tensors.insert("encoder.conv_in.bias", bias);
    latte_model::weights::save(&path, &tensors, None).unwrap();
}

#[test]
fn old_names_of_the_autoencoder_are_read() {
    let dir = place();
    let old = config(dir.path(), "run", &["autoencoder.kind=stable_diffusion"]);
    assert_eq!(old.autoencoder.kind, AutoencoderKind::Kl);
    assert!(old.to_toml().unwrap().contains("kind = \"kl\""));
    // Without weights, the shapes are those of Stable Diffusion.
    std::fs::remove_dir_all(dir.path().join("vae")).unwrap();
    assert_eq!(config(dir.path(), "run", &[]).latent_shape().unwrap(), [4, 4, 4, 4]);
}

#[test]
fn half_the_space_costs_half_the_digits() {
    let dir = place();
    let config = config(dir.path(), "none", &[]);
    encoded(&config, &options(dir.path(), "whole"));
    encoded(&config, &EncodeOptions { dtype: MomentDtype::F16, ..options(dir.path(), "half") });
    let size = |name: &str| contents(&dir.path().join(name)).values().map(Vec::len).sum::<usize>();
    let moments = |name: &str| {
        let cache = LatentCache::open(&dir.path().join(name)).unwrap();
        assert_eq!(cache.manifest().videos.len(), 6);
        (cache.moments(4, &[0, 5, 11], true).unwrap(), cache.moments(4, &[0, 5, 11], false).unwrap())
    };
    let ((flipped, whole), (half_flipped, half)) = (moments("whole"), moments("half"));
    assert_eq!(whole.len(), 3 * 8 * 4 * 4);
    assert_ne!(whole, flipped);
    assert_ne!(whole, half);
    for (a, b) in whole.iter().zip(&half).chain(flipped.iter().zip(&half_flipped)) {
        assert!((a - b).abs() <= a.abs() / 1024.0 + 1e-6, "{a} {b}");
    }
    // 6 videos of 12 frames, twice, with 8 × 4 × 4 values of 2 bytes less.
    assert!(size("whole") - size("half") >= 6 * 2 * 12 * 128 * 2);
    let mirrored: Vec<f32> = whole.chunks(4).flat_map(|row| row.iter().rev().copied()).collect();
    assert_ne!(mirrored, flipped, "a latent's mirror image is not the mirror image's latent");
    let message = LatentCache::open(&dir.path().join("whole")).unwrap().moments(0, &[12], false).unwrap_err();
    assert!(message.contains("frame 12 was asked for, but the video has 12 frames"), "{message}");
}

#[test]
fn shares_parts_and_resumption_give_the_files_of_one_process() {
    let dir = place();
    std::fs::write(dir.path().join("data/down/5.mp4"), b"this is no video").unwrap();
    let config = config(dir.path(), "none", &[]);
    // A file has one video: 12 frames × 8 × 4 × 4 × 4 bytes, twice.
    let options = |name: &str| EncodeOptions {
        file_bytes: 15_000,
        group_videos: NonZeroUsize::new(3).unwrap(),
        ..options(dir.path(), name)
    };
    let mut warnings = Warnings::default();
    let report = encode(&config, &options("one"), &mut warnings).unwrap();
    assert_eq!(report, EncodeReport { encoded: 7, found: 0, groups_left: 0, unreadable: 1 });
    assert!(warnings.0.len() == 1 && warnings.0[0].contains("5.mp4"), "{:?}", warnings.0);
    let one = contents(&dir.path().join("one"));
    let names: Vec<&str> = one.keys().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "latents.jsonl",
        "moments-00000-0.safetensors",
        "moments-00000-1.safetensors",
        "moments-00000-2.safetensors",
        "moments-00001-0.safetensors",
        "moments-00001-1.safetensors",
        "moments-00002-0.safetensors",
    ];
    assert_eq!(names, expected);
    let manifest = Manifest::read(&dir.path().join("one")).unwrap();
    let broken = &manifest.videos[3];
    assert!(
        broken.name == "down/5.mp4" && broken.video.is_none() && broken.error.is_some() && broken.file.is_none(),
        "{broken:?}"
    );

    let shard = |number: &str| EncodeOptions { shard: number.parse().unwrap(), ..options("shared") };
    let left: Vec<usize> = ["2/3", "3/3", "1/3"].map(|number| encoded(&config, &shard(number)).groups_left).to_vec();
    assert_eq!(left, [2, 1, 0]);
    assert_eq!(contents(&dir.path().join("shared")), one);
    for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
        assert!(wrong.parse::<latte_video::dataset::WorkShard>().is_err(), "{wrong}");
    }

    // Any finished file may be missing, and the remains of a killed process are removed.
    for missing in &expected {
        let path = dir.path().join("shared").join(missing);
        std::fs::remove_file(&path).unwrap();
        for left in [format!(".{missing}.1-0.tmp"), format!(".unfinished-1-0-{missing}")] {
            std::fs::write(dir.path().join("shared").join(left), b"half").unwrap();
        }
        let report = encoded(&config, &options("shared"));
        assert!(report.encoded + report.found == 7 && report.groups_left == 0, "{missing}: {report:?}");
        assert_eq!(contents(&dir.path().join("shared")), one, "{missing}");
    }
    // A damaged file is encoded again.
    let path = dir.path().join("shared").join(expected[2]);
    std::fs::write(&path, &one[Path::new(expected[2])][..100]).unwrap();
    let mut warnings = Warnings::default();
    encode(&config, &options("shared"), &mut warnings).unwrap();
    assert!(warnings.0[0].contains("damaged"), "{:?}", warnings.0);
    assert_eq!(contents(&dir.path().join("shared")), one);

    // Training skips the unreadable video, as it does with pixels.
    let cache = format!("data.latents={}", dir.path().join("one").display());
    train(self::config(dir.path(), "pixels", &[]));
    train(self::config(dir.path(), "cached", &[&cache]));
    assert_eq!(losses(dir.path(), "pixels"), losses(dir.path(), "cached"));
}

#[test]
fn latents_of_something_else_are_refused_by_what_differs() {
    let dir = place();
    let plain = EncodeOptions { flips: false, ..options(dir.path(), "cache") };
    let cache = format!("data.latents={}", dir.path().join("cache").display());
    let with = |overrides: &[&str]| config(dir.path(), "run", overrides);
    let trained = |overrides: &[&str]| {
        let all = [&["data.flip=false", cache.as_str()], overrides].concat();
        let message = class(with(&all)).and_then(|task| Trainer::open(task, Start::Auto)).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    let expect = |message: &str, words: &[&str]| assert!(words.iter().all(|word| message.contains(word)), "{message}");
    expect(&trained(&[]), &["cache", "no latent cache here", "latte encode"]);
    // One file of three exists.
    encoded(&with(&[]), &EncodeOptions { shard: "1/3".parse().unwrap(), ..plain.clone() });
    expect(&trained(&[]), &["no latent cache here"]);
    encoded(&with(&[]), &plain);

    expect(&trained(&["data.flip=true"]), &["no mirrored videos", "--flips"]);
    expect(&trained(&["data.size=64"]), &["does not fit the configuration", "`data.size` is 32 × 32", "64 × 64 was asked for"]);
    expect(&trained(&["data.transform=crop_resize"]), &["`data.transform` is resize_crop", "crop_resize was asked for"]);
    expect(&trained(&["autoencoder.precision=bf16"]), &["`autoencoder.precision` is f32", "bf16"]);
    let overrides = ["autoencoder.kind=pixels", "data.flip=false", cache.as_str()].map(String::from);
    let text = with(&[]).to_toml().unwrap().replace("path = ", "# path = ").replace("[data]", "[data]\npath = 'x'");
    expect(&TrainConfig::from_toml(&text, "x", &overrides).unwrap_err().to_string(), &["data.latents", "`pixels`"]);

    expect(&refused(&with(&[]), &EncodeOptions { flips: true, ..plain.clone() }), &["whether flips are stored is no", "yes"]);
    expect(&refused(&with(&[]), &EncodeOptions { dtype: MomentDtype::F16, ..plain.clone() }), &["float32", "float16"]);
    expect(&refused(&with(&["data.size=16"]), &plain), &["`data.size`", "32 × 32", "16 × 16", "another folder"]);
    std::fs::remove_file(dir.path().join("cache/latents.jsonl")).unwrap();
    expect(&refused(&with(&["data.size=16"]), &plain), &["moments-00000-0", "32 × 32", "16 × 16"]);
    encoded(&with(&[]), &plain);
    std::fs::write(dir.path().join("data/down/00.mp4"), b"new").unwrap();
    expect(&refused(&with(&[]), &plain), &["holds 6 videos", "has 7"]);
    std::fs::remove_file(dir.path().join("cache/latents.jsonl")).unwrap();
    expect(&refused(&with(&[]), &plain), &["the data set has changed", "down/1.mp4", "down/00.mp4"]);
    std::fs::remove_file(dir.path().join("data/down/00.mp4")).unwrap();
    encoded(&with(&[]), &plain);

    another_vae(&dir.path().join("vae"));
    expect(&trained(&[]), &["another autoencoder", "SHA-256"]);
    expect(&refused(&with(&[]), &plain), &["another autoencoder", "SHA-256"]);
    std::fs::remove_dir_all(dir.path().join("vae")).unwrap();
    Trainer::open(class(with(&["data.flip=false", &cache])).unwrap(), Start::Auto).unwrap();
    std::fs::remove_file(dir.path().join("cache/moments-00001-0.safetensors")).unwrap();
    expect(&trained(&[]), &["moments-00001-0.safetensors"]);
}
