//! Converts and inspects weights of other programs with the built program.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use latte_model::model::{Condition, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_model::weights::{FileKind, Pretrained, RawTensor, StoredDtype, TensorSource, write_weights};
use latte_video::{Decoder, Video};
use tempfile::TempDir;

fn latte(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latte")).current_dir(dir).args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let output = latte(dir, args);
    assert!(output.status.success(), "latte {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(dir: &Path, args: &[&str]) -> String {
    let output = latte(dir, args);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "latte {}: {line}", args.join(" "));
    line
}

/// All tensors, bit for bit.
fn bits(path: &Path) -> Vec<(String, StoredDtype, Vec<usize>, Vec<u8>)> {
    let weights = Pretrained::open(path).unwrap();
    let one = |name: String| {
        let RawTensor { dtype, shape, bytes } = weights.raw(&name).unwrap();
        (name, dtype, shape, bytes.into_owned())
    };
    weights.names().into_iter().map(one).collect()
}

/// An official checkpoint of a small model on pixels, as PyTorch writes it, with every second tensor of another type.
fn official(dir: &Path, extra: &[&str], without: &str) -> PathBuf {
    official_of(3, dir, extra, without)
}

/// The same for latents with this number of channels.
fn official_of(in_channels: usize, dir: &Path, extra: &[&str], without: &str) -> PathBuf {
    let config = LatteConfig {
        input_size: [4, 4],
        in_channels,
        num_frames: 2,
        hidden_size: 16,
        depth: 2,
        num_heads: 2,
        condition: Condition::Class { num_classes: 3, dropout: 0.1 },
        ..LatteConfig::preset("Latte-S/2").unwrap()
    };
    let mut parameters = Latte::new(config).unwrap().init(&mut TorchRng::new(5)).unwrap();
    for name in extra {
        parameters.insert(*name, Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap());
    }
    let _ = parameters.remove(without);
    let names: Vec<String> = parameters.names();
    let read = |name: &str| {
        let values = parameters.get(name).unwrap().to_host()?.flatten_all()?.to_vec1::<f32>()?;
        let shape = parameters.shape(name).unwrap();
        let half = name.ends_with("bias");
        let bytes: Vec<u8> = if half {
            values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        Ok(RawTensor { dtype: if half { StoredDtype::Bf16 } else { StoredDtype::F32 }, shape, bytes: bytes.into() })
    };
    let path = dir.join("official.pt");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write_weights(&path, &FileKind::Torch { part: Some("ema".into()) }, &names, &read).unwrap();
    path
}

#[test]
fn official_weights_become_ours_and_back_bit_for_bit_and_sample() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let start = official(at, &[], "");
    let message = refused(at, &["convert", "official.pt", "ours.safetensors"]);
    assert!(message.contains("num_heads") && message.contains("--heads"), "{message}");
    ok(at, &["convert", "official.pt", "ours.safetensors", "--heads", "2"]);
    ok(at, &["convert", "ours.safetensors", "again.pt"]);
    assert_eq!(bits(&at.join("ours.safetensors")), bits(&start));
    assert_eq!(bits(&at.join("again.pt")), bits(&start));
    // The new file has the options above as metadata, so they need not be repeated.
    ok(at, &["convert", "again.pt", "third.safetensors"]);
    assert_eq!(bits(&at.join("third.safetensors")), bits(&start));
    let told = ok(at, &["inspect", "ours.safetensors"]);
    assert!(told.contains("2 blocks of width 16, 2 heads") && told.contains("3 classes"), "{told}");
    assert!(told.contains("of bfloat16") && told.contains("sha256"), "{told}");
    let told = ok(at, &["inspect", "official.pt"]);
    assert!(told.contains("the weights of a Latte") && told.contains("of bfloat16") && told.contains("sha256"), "{told}");
    let args = ["sample", "--checkpoint", "ours.safetensors", "--class", "1", "--steps", "2", "--format", "png", "--out", "out"];
    ok(at, &args);
    assert!(at.join("out/class1_seed0").is_dir());
}

#[test]
fn what_does_not_fit_is_refused_unless_lenient() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    official(at, &["surplus"], "blocks.1.attn.proj.bias");
    let args = ["convert", "official.pt", "ours.safetensors", "--heads", "2"];
    let message = refused(at, &args);
    assert!(message.contains("`surplus`") && message.contains("`blocks.1.attn.proj.bias`"), "{message}");
    assert!(!at.join("ours.safetensors").exists());
    ok(at, &[&args[..], &["--lenient"]].concat());
    assert!(!bits(&at.join("ours.safetensors")).iter().any(|(name, ..)| name == "surplus"));
    assert!(refused(at, &["convert", "nowhere.pt", "x.pt"]).contains("no such file"));
    assert!(refused(at, &["convert", "official.pt", "x.gif"]).contains("--to"));
    assert!(refused(at, &["convert", "official.pt", "folder", "--heads", "2", "--lenient"]).contains("diffusers"));
    std::fs::write(at.join("broken.pt"), b"PK\x03\x04 and nothing").unwrap();
    assert!(refused(at, &["inspect", "broken.pt"]).contains("zip"));
    assert!(refused(at, &["sample", "--checkpoint", "broken.pt"]).contains("zip"));
}

#[test]
fn text_to_video_weights_go_through_all_kinds_of_files() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v/transformer");
    let input = start.to_str().unwrap();
    ok(at, &["convert", input, "t2v.pt"]);
    // Without a configuration, the shapes determine everything but the heads.
    let weights = Pretrained::open(&start).unwrap();
    let names = weights.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write_weights(&at.join("foreign.pt"), &FileKind::Torch { part: Some("ema".into()) }, &names, &|name| weights.raw(name))
        .unwrap();
    assert!(ok(at, &["inspect", "foreign.pt"]).contains("--heads"));
    assert!(refused(at, &["convert", "foreign.pt", "x.safetensors"]).contains("--heads"));
    ok(at, &["convert", "t2v.pt", "folder"]);
    ok(at, &["convert", "folder", "t2v.safetensors"]);
    for file in ["t2v.pt", "folder", "t2v.safetensors"] {
        assert_eq!(bits(&at.join(file)), bits(&start), "{file}");
    }
    let told = ok(at, &["inspect", "folder"]);
    assert!(told.contains("LatteTransformer3DModel: ") && told.contains("num_attention_heads 2"), "{told}");
    assert!(ok(at, &["inspect", "t2v.pt"]).contains("num_attention_heads 2"));
    let told = ok(at, &["inspect", start.parent().unwrap().to_str().unwrap()]);
    for part in
        ["transformer: the weights of a text-to-video Latte", "text_encoder: ", "vae: ", "vae_temporal_decoder: ", "d_kv "]
    {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_missing_autoencoder_is_an_error_before_the_work() {
    let dir = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/latte_uncond.safetensors");
    let weights = Pretrained::open(&golden).unwrap();
    let names: Vec<String> = weights.names().into_iter().filter(|name| name.starts_with("param.")).collect();
    let own: Vec<&str> = names.iter().map(|name| &name["param.".len()..]).collect();
    let read = |name: &str| weights.raw(&format!("param.{name}"));
    write_weights(&dir.path().join("x.pt"), &FileKind::Torch { part: None }, &own, &read).unwrap();
    ok(dir.path(), &["convert", "x.pt", "x.safetensors", "--heads", "3"]);
    let message = refused(dir.path(), &["sample", "--checkpoint", "x.safetensors"]);
    assert!(message.contains("--vae"), "{message}");
}

#[test]
fn a_model_on_latents_samples_with_the_given_autoencoder() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    official_of(4, at, &[], "");
    ok(at, &["convert", "official.pt", "ours.safetensors", "--heads", "2"]);
    let vae = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v/vae");
    // Another autoencoder of the same sizes: one weight of the last layer differs.
    std::fs::create_dir(at.join("other")).unwrap();
    std::fs::copy(vae.join("config.json"), at.join("other/config.json")).unwrap();
    let weights = Pretrained::open(&vae).unwrap();
    let read = |name: &str| {
        let mut tensor = weights.raw(name)?;
        if name == "decoder.conv_out.bias" {
            let bytes = tensor.bytes.to_mut();
            bytes[..4].copy_from_slice(&0.75f32.to_le_bytes());
        }
        Ok(tensor)
    };
    let names = weights.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let kind = FileKind::Safetensors { metadata: std::collections::BTreeMap::new() };
    write_weights(&at.join("other/diffusion_pytorch_model.safetensors"), &kind, &names, &read).unwrap();

    let sample = |vae: &str, seed: &str, out: &str| {
        let args = ["sample", "--checkpoint", "ours.safetensors", "--vae", vae, "--class", "1", "--steps", "2", "--seed", seed];
        ok(at, &[&args[..], &["--out", out]].concat());
        std::fs::read(at.join(out).join(format!("class1_seed{seed}.mp4"))).unwrap()
    };
    let vae = vae.to_str().unwrap();
    let video = sample(vae, "3", "one");
    let written = Video::open(at.join("one/class1_seed3.mp4"), Decoder::Auto).unwrap();
    let info = written.info();
    // Latents of 4 × 4, which the autoencoder enlarges eight times.
    assert_eq!((info.height, info.width, info.num_frames), (32, 32, 2));
    assert!(video == sample(vae, "3", "two"), "the same seed, other bytes");
    assert!(video != sample(vae, "4", "three"), "another seed, the same bytes");
    assert!(video != sample("other", "3", "four"), "another autoencoder, the same bytes");

    // The same autoencoder inside a whole Stable Diffusion model.
    std::fs::create_dir(at.join("sd")).unwrap();
    std::fs::copy(Path::new(vae).join("config.json"), at.join("sd/config.json")).unwrap();
    let others = ["model.diffusion_model.out.2.bias", "cond_stage_model.ln_final.bias"];
    let within: Vec<String> = names.iter().map(|name| format!("first_stage_model.{name}")).collect();
    let all: Vec<&str> = within.iter().map(String::as_str).chain(others).collect();
    let read = |name: &str| weights.raw(name.strip_prefix("first_stage_model.").unwrap_or("decoder.conv_out.bias"));
    write_weights(&at.join("sd/whole.ckpt"), &FileKind::Torch { part: Some("state_dict".into()) }, &all, &read).unwrap();
    assert!(video == sample("sd/whole.ckpt", "3", "five"), "the same autoencoder, other bytes");
    let told = ok(at, &["inspect", "sd/whole.ckpt"]);
    for part in [
        "the weights of a Stable Diffusion model in one file",
        "denoiser    1 tensors with 3 values",
        &format!("autoencoder {} tensors", names.len()),
        "texts       1 tensors",
        "--vae",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    write_weights(&at.join("sd/unet.ckpt"), &FileKind::Torch { part: None }, &others, &read).unwrap();
    assert!(ok(at, &["inspect", "sd/unet.ckpt"]).contains("not usable"));
    let args = ["sample", "--checkpoint", "ours.safetensors", "--class", "1", "--out", "none", "--vae"];
    assert!(refused(at, &[&args[..], &["sd/unet.ckpt"]].concat()).contains("without its autoencoder"));
    assert!(refused(at, &[&args[..], &["official.pt"]].concat()).contains("holds a Latte; expected an autoencoder"));
    assert!(refused(at, &["sample", "--checkpoint", "sd/whole.ckpt"]).contains("a Stable Diffusion model in one file"));
}

#[test]
fn training_starts_from_the_blocks_of_an_image_model() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    ok(at, &["data", "demo", "clips", "--clips", "1"]);
    let train = |run: &str, more: &[&str]| {
        let mut args: Vec<String> = ["train", "--config", "clips/train.toml"].map(String::from).to_vec();
        let run = format!("output.run={run}");
        let tiny = [
            "model.hidden_size=16",
            "model.depth=2",
            "model.num_heads=2",
            "model.patch_size=4",
            "data.size=16",
            "data.num_frames=4",
            "train.batch_size=2",
            "train.max_steps=1",
            "optimizer.learning_rate=0",
            &run,
        ];
        for setting in tiny.iter().chain(more) {
            args.extend(["--set".to_string(), (*setting).to_string()]);
        }
        latte(at, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(train("first", &["train.seed=1"]).status.success());
    ok(at, &["convert", "first", "dit.pt"]);
    let output = train("second", &["init.from=dit", "init.path=dit.pt", "train.seed=2"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("tensors used") && told.contains("1 ignored: `y_embedder.embedding_table.weight`"), "{told}");
    // The learning rate is 0, so the run has its initial weights.
    let same = |name: &str| {
        let of = |file: &str| Pretrained::open(&at.join(file)).unwrap().raw(name).unwrap().bytes.into_owned();
        of("dit.pt") == of("second/checkpoints/0000001/model.safetensors")
    };
    assert!(same("blocks.1.attn.qkv.weight") && same("t_embedder.mlp.0.weight"));
    assert!(!same("y_embedder.embedding_table.weight"));
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/weights/nested.pt"), at.join("other.pt")).unwrap();
    let output = train("third", &["init.from=dit", "init.path=other.pt"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("none of its tensors fits"), "{told}");
}
