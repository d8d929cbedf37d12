//! Files that PyTorch wrote (`testdata/weights`, by `make.py` there), and hostile files.

use std::path::{Path, PathBuf};

use candle_core::Device;
use latte_model::Result;
use latte_model::weights::{
    FileKind, PartChoice, Pretrained, RawTensor, StoredDtype, TensorSource, WeightFiles, WeightKind, write_weights,
};
use proptest::prelude::*;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/weights").join(name)
}

fn values(weights: &WeightFiles, name: &str) -> Result<Vec<f32>> {
    Ok(weights.f32_tensor(name)?.flatten_all()?.to_vec1::<f32>()?)
}

/// 0, 1/4, 2/4, …
fn quarters(len: usize) -> Vec<f32> {
    (0..len).map(|n| n as f32 / 4.0).collect()
}

#[test]
fn every_container_gives_the_same_tensors() -> Result<()> {
    for file in ["everything.pt", "everything_legacy.pt", "everything_protocol4.pt"] {
        let weights = WeightFiles::open(&example(file))?;
        assert_eq!(weights.names().len(), 17, "{file}");
        let base = quarters(24);
        assert_eq!(values(&weights, "plain")?, base, "{file}");
        assert_eq!(values(&weights, "tied")?, base);
        let transposed: Vec<f32> = (0..24).map(|n| base[n % 4 * 6 + n / 4]).collect();
        assert_eq!((weights.shape("transposed"), values(&weights, "transposed")?), (Some(vec![6, 4]), transposed));
        assert_eq!(values(&weights, "row")?, base[12..18]);
        assert_eq!(values(&weights, "column")?, [base[1], base[7], base[13], base[19]]);
        assert_eq!(values(&weights, "window")?, [&base[8..11], &base[14..17]].concat());
        let expanded: Vec<f32> = quarters(3).into_iter().flat_map(|v| [v; 4]).collect();
        assert_eq!(values(&weights, "expanded")?, expanded);
        assert_eq!((weights.shape("scalar"), values(&weights, "scalar")?), (Some(vec![]), vec![2.5]));
        assert_eq!((weights.shape("empty"), values(&weights, "empty")?), (Some(vec![0, 3]), vec![]));
        for (name, dtype) in [("f16", StoredDtype::F16), ("bf16", StoredDtype::Bf16), ("f64", StoredDtype::F64)] {
            assert_eq!((weights.dtype(name), values(&weights, name)?), (Some(dtype), quarters(6)), "{file} {name}");
        }
        assert_eq!(values(&weights, "parameter")?, quarters(4));
        let cube: Vec<f32> = (0..24).map(|n| base[n / 6 + 12 * (n / 3 % 2) + 4 * (n % 3)]).collect();
        assert_eq!((weights.shape("cube"), values(&weights, "cube")?), (Some(vec![4, 2, 3]), cube));
        assert_eq!(weights.raw("i64")?.bytes.len(), 24);
        assert_eq!((weights.dtype("bool"), &*weights.raw("bool")?.bytes), (Some(StoredDtype::Bool), &[1u8, 0][..]));
        let message = weights.f32_tensor("i64").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("`i64` holds int64") && message.contains(file), "{message}");
        assert!(weights.f32_tensor("nothing").is_err() && weights.shape("nothing").is_none());
    }
    Ok(())
}

#[test]
fn the_average_is_taken_and_the_rest_left_out() -> Result<()> {
    for file in ["nested.pt", "nested_legacy.pt", "deflated.pt"] {
        let weights = Pretrained::open(&example(file))?;
        assert_eq!(
            (weights.part(), weights.names(), weights.num_left_out()),
            (Some("ema"), vec!["a".into(), "b".into()], 4),
            "{file}"
        );
        assert_eq!(weights.f32_tensor("a")?.to_vec1::<f32>()?, [10.0, 10.25]);
        assert_eq!(values(weights.files(), "model.b")?, quarters(3));
        assert_eq!(values(weights.files(), "opt.state.0.step")?, [3.0]);
    }
    assert_eq!(Pretrained::open(&example("module.pt"))?.part(), Some("model"));
    Ok(())
}

#[test]
fn modules_of_torchscript_have_their_names() -> Result<()> {
    for file in ["scripted.pt", "traced.pt"] {
        let weights = WeightFiles::open(&example(file))?;
        let mut names = weights.names();
        names.retain(|name| !name.starts_with("constants."));
        assert_eq!(names, ["conv.bias", "conv.weight", "inner.0.bias", "inner.0.weight", "mean"], "{file}");
        assert_eq!(values(&weights, "inner.0.weight")?, quarters(12));
    }
    assert_eq!(values(&WeightFiles::open(&example("traced.pt"))?, "constants.0")?, [1.0, 2.0, 3.0]);
    Ok(())
}

#[test]
fn newer_types_keep_their_bits() -> Result<()> {
    let weights = WeightFiles::open(&example("new_dtypes.pt"))?;
    assert_eq!((weights.dtype("a"), weights.dtype("b")), (Some(StoredDtype::F8E4m3), Some(StoredDtype::U16)));
    assert_eq!(&*weights.raw("b")?.bytes, [7, 0]);
    Ok(())
}

#[test]
fn parts_are_one_source() -> Result<()> {
    let weights = WeightFiles::open(&example("pytorch_model.bin.index.json"))?;
    assert_eq!(weights.names(), ["first", "second"]);
    assert_eq!((values(&weights, "first")?, values(&weights, "second")?), (quarters(4), quarters(3)));
    assert!(weights.file("second").is_some_and(|file| file.ends_with("pytorch_model-00002-of-00002.bin")));
    assert_eq!(weights.sha256().len(), 2);
    Ok(())
}

/// A temporary folder for a test.
fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|source| latte_model::Error::Io { path: "temporary".into(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| latte_model::Error::Io { path: path.into(), source })
}

#[test]
fn indices_that_lead_elsewhere_are_refused() -> Result<()> {
    let dir = folder()?;
    let index = dir.path().join("model.safetensors.index.json");
    for text in [
        "{}",
        "[]",
        "nonsense",
        r#"{"weight_map": {"a": "../a.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/passwd"}}"#,
        r#"{"weight_map": {"a": 3}}"#,
        r#"{"weight_map": {"a": "missing.safetensors"}}"#,
        r#"{"weight_map": {"a": "model.safetensors.index.json"}}"#,
    ] {
        write(&index, text.as_bytes())?;
        assert!(WeightFiles::open(&index).is_err(), "{text}");
        assert!(WeightFiles::open(dir.path()).is_err(), "{text}");
    }
    Ok(())
}

#[test]
fn a_file_larger_than_the_memory_opens_at_once() -> Result<()> {
    let dir = folder()?;
    let path = dir.path().join("large.safetensors");
    let len: u64 = 40 << 30;
    let last = len - 8;
    let header = format!(
        r#"{{"large":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{last}]}},"end":{{"dtype":"F32","shape":[2],"data_offsets":[{last},{len}]}}}}"#,
        last / 4
    );
    let io = |source| latte_model::Error::Io { path: path.clone(), source };
    let file = std::fs::File::create(&path).map_err(io)?;
    std::io::Write::write_all(&mut &file, &(header.len() as u64).to_le_bytes()).map_err(io)?;
    std::io::Write::write_all(&mut &file, header.as_bytes()).map_err(io)?;
    // A sparse file: 40 GiB that take no space on the disk.
    file.set_len(8 + header.len() as u64 + len).map_err(io)?;
    let weights = WeightFiles::open(&path)?;
    assert_eq!(weights.shape("large"), Some(vec![(last / 4) as usize]));
    assert_eq!(values(&weights, "end")?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn written_weights_are_read_back_bit_for_bit() -> Result<()> {
    let dir = folder()?;
    let source = WeightFiles::open(&example("everything.pt"))?;
    let names = source.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let metadata = std::collections::BTreeMap::from([("a".to_string(), "\u{fc} \"b\"".to_string())]);
    for (file, kind) in [
        ("x.safetensors", FileKind::Safetensors { metadata: metadata.clone() }),
        ("x.pt", FileKind::Torch { part: None }),
        ("ema.pt", FileKind::Torch { part: Some("ema".into()) }),
    ] {
        let path = dir.path().join(file);
        write_weights(&path, &kind, &names, &|name| source.raw(name))?;
        let again = Pretrained::open(&path)?;
        assert_eq!(again.names(), source.names(), "{file}");
        for name in &names {
            assert_eq!(again.raw(name)?, source.raw(name)?, "{file} {name}");
        }
        if file.ends_with("safetensors") {
            assert_eq!(*again.files().metadata(), metadata);
        }
    }
    Ok(())
}

#[test]
fn wrappers_and_old_names_are_taken_off() -> Result<()> {
    let dir = folder()?;
    let source = WeightFiles::open(&example("nested.pt"))?;
    let write = |file: &str, names: &[&str]| {
        let path = dir.path().join(file);
        write_weights(&path, &FileKind::Torch { part: None }, names, &|_| source.raw("model.a"))?;
        Pretrained::open(&path)
    };
    let names = ["state_dict.ema.module._orig_mod.time_embed", "state_dict.ema._orig_mod.blocks.0.attn.qkv.weight", "epoch"];
    let weights = write("wrapped.pt", &names)?;
    assert_eq!(weights.names(), ["blocks.0.attn.qkv.weight", "temp_embed"]);
    assert_eq!(weights.part(), Some("state_dict.ema"));
    assert!(write("twice.pt", &["module.a", "a"]).is_err());
    // The key `model` of a whole Stable Diffusion model is not a part.
    for outer in ["", "state_dict."] {
        let names = ["cond_stage_model.a", "first_stage_model.b", "model.diffusion_model.c", "model_ema.d"];
        let stored: Vec<String> = names.iter().map(|name| format!("{outer}{name}")).collect();
        let weights = write("whole.ckpt", &stored.iter().map(String::as_str).collect::<Vec<_>>())?;
        assert_eq!((weights.names(), weights.part()), (names.map(String::from).to_vec(), outer.strip_suffix('.')));
    }
    for (kind, names) in [
        (WeightKind::Latte, &["x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "time_embed"][..]),
        (WeightKind::Dit, &["x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "y_embedder.embedding_table.weight"]),
        (WeightKind::Autoencoder, &["decoder.conv_in.weight", "decoder.conv_out.weight"]),
        (WeightKind::T5, &["encoder.block.0.layer.0.SelfAttention.q.weight"]),
        (WeightKind::StableDiffusion, &["model.diffusion_model.out.2.bias", "cond_stage_model.a"]),
        (WeightKind::StableDiffusion, &["state_dict.first_stage_model.decoder.conv_in.weight", "state_dict.model_ema.decay"]),
        (WeightKind::Unknown, &["a"]),
    ] {
        assert_eq!(write("kind.pt", names)?.kind(), kind);
    }
    Ok(())
}

/// A file whose tensors have these names, each with one value: its index in the list.
fn numbered(path: &Path, kind: &FileKind, names: &[String]) -> Result<()> {
    let read = |name: &str| {
        let place = names.iter().position(|other| other == name).unwrap_or_default() as f32;
        Ok(RawTensor { dtype: StoredDtype::F32, shape: vec![1], bytes: place.to_le_bytes().to_vec().into() })
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(write_weights(path, kind, &names, &read)?)
}

/// Names that identify each kind of weights.
const KNOWN: [(WeightKind, &[&str]); 6] = [
    (WeightKind::Latte, &["x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "temp_embed"]),
    (WeightKind::Dit, &["x_embedder.proj.weight", "blocks.0.attn.qkv.weight"]),
    (
        WeightKind::LatteT2v,
        &["transformer_blocks.0.scale_shift_table", "temporal_transformer_blocks.0.scale_shift_table", "proj_out.weight"],
    ),
    (WeightKind::Autoencoder, &["decoder.conv_in.weight", "decoder.conv_out.weight", "quant_conv.weight"]),
    (WeightKind::TemporalAutoencoder, &["decoder.conv_in.weight", "decoder.conv_out.weight", "decoder.temporal_res_block.a"]),
    (WeightKind::T5, &["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"]),
];

#[test]
fn every_wrapper_in_any_order_is_taken_off_every_kind_of_weights() -> Result<()> {
    const WRAPPERS: [&str; 5] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];
    let dir = folder()?;
    let mut prefixes: Vec<String> = vec![String::new()];
    for one in WRAPPERS {
        prefixes.push(format!("{one}."));
        prefixes.extend(WRAPPERS.map(|other| format!("{one}.{other}.")));
        prefixes.extend(["model", "state_dict", "ema_model", "net"].map(|key| format!("{one}.{key}.")));
        prefixes.extend(["model", "state_dict.model", "state_dict.ema_model", "generator"].map(|key| format!("{key}.{one}.")));
    }
    for (kind, names) in KNOWN {
        for prefix in &prefixes {
            // Compiled and sharded parts also have wrappers inside their names.
            for inner in ["", "._orig_mod", "._fsdp_wrapped_module._checkpoint_wrapped_module"] {
                let wrapped = |name: &&str| match name.split_once('.') {
                    Some((first, rest)) => format!("{prefix}{first}{inner}.{rest}"),
                    None => format!("{prefix}{name}"),
                };
                let stored: Vec<String> = names.iter().map(wrapped).collect();
                for (file, format) in [
                    ("x.pt", FileKind::Torch { part: None }),
                    ("x.safetensors", FileKind::Safetensors { metadata: std::collections::BTreeMap::new() }),
                ] {
                    let path = dir.path().join(file);
                    numbered(&path, &format, &stored)?;
                    let weights = Pretrained::open(&path)?;
                    let mut expected: Vec<&str> = names.to_vec();
                    expected.sort_unstable();
                    assert_eq!(
                        (weights.kind(), weights.names()),
                        (kind, expected.iter().map(ToString::to_string).collect()),
                        "{prefix}"
                    );
                    assert_eq!((weights.note(), weights.num_left_out()), (None, 0), "{prefix}");
                    for (place, name) in names.iter().enumerate() {
                        assert_eq!(weights.f32_tensor(name)?.to_vec1::<f32>()?, [place as f32], "{prefix}{name}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn an_average_under_any_key_is_chosen_and_the_choice_is_reported() -> Result<()> {
    let dir = folder()?;
    let path = dir.path().join("x.pt");
    let averages = [
        "ema",
        "ema_model",
        "model_ema",
        "ema_state_dict",
        "ema_weights",
        "params_ema",
        "ema.module",
        "ema.ema_model",
        "shadow",
        "state_dict.ema_model",
        "state_dict.model_ema",
        "state_dict.ema_model.module._orig_mod",
    ];
    let weights = [
        "model",
        "module",
        "state_dict",
        "net",
        "network",
        "generator",
        "model_state_dict",
        "state_dict.model",
        "ema.online_model",
        "",
    ];
    for (kind, names) in KNOWN {
        for average in averages {
            for plain in weights {
                let under = |key: &str| -> Vec<String> {
                    names.iter().map(|name| if key.is_empty() { (*name).to_string() } else { format!("{key}.{name}") }).collect()
                };
                let stored = [under(plain), under(average), vec!["optimizer.state.0.step".into()]].concat();
                numbered(&path, &FileKind::Torch { part: None }, &stored)?;
                let opened = Pretrained::open(&path)?;
                let what = format!("{kind}: {average} beside {plain}");
                assert_eq!((opened.kind(), opened.is_average(), opened.names().len()), (kind, true, names.len()), "{what}");
                let first = opened.f32_tensor(names[0])?.to_vec1::<f32>()?;
                assert_eq!(first, [names.len() as f32], "{what}");
                let note = opened.note().unwrap_or_default();
                // The outermost dictionary also has the optimiser's tensors.
                let same = if plain.is_empty() || plain == "module" { "of them" } else { "tensors" };
                let same = format!("{} {same} of the same names", names.len());
                let told = ["averaged weights", &format!("({} tensors)", names.len()), &same];
                assert!(told.iter().all(|told| note.contains(told)), "{what}: {note}");
                if !plain.is_empty() && plain != "module" {
                    let choice = PartChoice { key: Some(plain), is_wanted: None };
                    let other = Pretrained::choose(WeightFiles::open(&path)?, choice)?;
                    assert_eq!(other.f32_tensor(names[0])?.to_vec1::<f32>()?, [0.0], "{what}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn averages_without_names_are_refused_or_reported() -> Result<()> {
    let dir = folder()?;
    let path = dir.path().join("x.pt");
    let list = ["ema.shadow_params.0".to_string(), "ema.shadow_params.1".into()];
    numbered(&path, &FileKind::Torch { part: None }, &list)?;
    let message = Pretrained::open(&path).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("`ema.shadow_params`") && message.contains("without names"), "{message}");
    let model: Vec<String> = KNOWN[0].1.iter().map(|name| format!("model.{name}")).collect();
    numbered(&path, &FileKind::Torch { part: None }, &[&list[..], &model].concat())?;
    let weights = Pretrained::open(&path)?;
    assert_eq!((weights.part(), weights.is_average()), (Some("model"), false));
    assert!(weights.note().is_some_and(|note| note.contains("`ema.shadow_params` (an average without names)")));
    Ok(())
}

#[test]
fn a_part_may_be_asked_for_by_its_key() -> Result<()> {
    let dir = folder()?;
    let path = dir.path().join("x.pt");
    let under = |key: &str| KNOWN[0].1.iter().map(move |name| format!("{key}.{name}")).collect::<Vec<_>>();
    let stored = [under("ema"), under("state_dict.model"), under("mine.teacher")].concat();
    numbered(&path, &FileKind::Torch { part: None }, &stored)?;
    let first = |key: &str| -> Result<f32> {
        let weights = Pretrained::choose(WeightFiles::open(&path)?, PartChoice { key: Some(key), is_wanted: None })?;
        Ok(weights.f32_tensor(KNOWN[0].1[0])?.to_vec1::<f32>()?[0])
    };
    assert_eq!([first("ema")?, first("model")?, first("state_dict.model")?, first("mine.teacher")?], [0.0, 3.0, 3.0, 6.0]);
    let message = first("nothing").err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("`nothing`") && message.contains("`ema` (3 tensors)"), "{message}");
    Ok(())
}

#[test]
fn plain_values_beside_tensors_come_back_exactly() -> Result<()> {
    let dir = folder()?;
    let path = dir.path().join("x.pt");
    let value = serde_json::json!({
        "a": null, "b": [true, false], "c": [0, -1, i64::MIN, u64::MAX, 2_147_483_648u64], "d": [0.1, -2.5e-300, 8.333_333_333_333_334, 1e300],
        "e": {"nested": {"\u{fc}": ["", []]}, "empty": {}},
    });
    let values =
        std::collections::BTreeMap::from([("latte".to_string(), value.clone()), ("config.json".to_string(), value.clone())]);
    numbered(&path, &FileKind::TorchWithValues { part: "ema".into(), values }, &["a".to_string()])?;
    let files = WeightFiles::open(&path)?;
    assert_eq!((files.description()?, files.config()?), (Some(value.clone()), Some(value)));
    assert_eq!(Pretrained::open(&path)?.names(), ["a"]);
    Ok(())
}

#[test]
fn other_files_are_refused_with_what_to_do() -> Result<()> {
    let dir = folder()?;
    for (name, bytes, expected) in [
        ("empty.pt", &b""[..], "neither a PyTorch file"),
        ("text.bin", b"hello", "neither a PyTorch file"),
        ("text.safetensors", b"hello, this is no such file", "safetensors"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", "Git LFS pointer"),
        ("page.safetensors", b"<!DOCTYPE html>\n<html>", "web page"),
        ("empty.safetensors", b"", "is empty"),
        ("short.safetensors", b"\xff\x01\0\0\0\0\0\0{\"a\"", "has 12 bytes, expected more than 519"),
        (
            "cut.safetensors",
            b"\x3c\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,36]}}     \0\0\0",
            "expected 104",
        ),
        ("packed.bin", b"\x1f\x8b\x08\0\0", "gzip"),
        ("other.zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "data.pkl"),
    ] {
        let path = dir.path().join(name);
        write(&path, bytes)?;
        let message = WeightFiles::open(&path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
    assert!(WeightFiles::open(&dir.path().join("missing.pt")).is_err_and(|e| e.to_string().contains("missing.pt")));
    assert!(WeightFiles::open(&example("no_torch.pkl")).is_err());
    let danger = WeightFiles::open(&example("danger.pt")).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(danger.contains("posix.system") && danger.contains("nothing was run"), "{danger}");
    Ok(())
}

/// Opens a file of any content and reads all of it. Any result passes, a panic does not.
fn try_all(path: &Path) {
    if let Ok(weights) = WeightFiles::open(path) {
        for name in weights.names() {
            let _ = weights.raw(&name);
            let _ = weights.f32_tensor(&name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_files_are_errors_or_weights(
        file in prop::sample::select(vec!["everything.pt", "everything_legacy.pt", "nested.pt", "deflated.pt", "scripted.pt", "x"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..8),
    ) {
        let dir = folder().unwrap();
        let path = dir.path().join("x.safetensors");
        let mut bytes = if file == "x" {
            let one = [("a.b".to_string(), candle_core::Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap())];
            latte_model::weights::save(&path, &one.into_iter().collect(), Some(&serde_json::json!({"x": 1}))).unwrap();
            std::fs::read(&path).unwrap()
        } else {
            std::fs::read(example(file)).unwrap()
        };
        for (at, value, how) in changes {
            if bytes.is_empty() { break; }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => { bytes.remove(at); }
                _ => bytes.insert(at, value),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        try_all(&path);
    }
}
