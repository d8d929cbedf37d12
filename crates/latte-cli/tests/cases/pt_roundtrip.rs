//! `pt-roundtrip`: weights are converted between all pairs of formats and keep their metadata.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use latte_model::checkpoint::{CheckpointMetadata, load_weights};
use latte_model::diffusion::{DiffusionConfig, PredictionType, VarianceType};
use latte_model::model::{BlockLayout, Condition, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_model::weights::{Pretrained, StoredDtype, TensorSource};

use crate::place::Place;
use crate::tiny_t2v;

/// Metadata without any default value.
fn card() -> CheckpointMetadata {
    let model = LatteConfig {
        input_size: [4, 8],
        in_channels: 3,
        num_frames: 2,
        hidden_size: 16,
        depth: 2,
        num_heads: 2,
        block_layout: BlockLayout::LateFusion,
        condition: Condition::Class { num_classes: 2, dropout: 0.25 },
        learn_sigma: false,
        ..LatteConfig::preset("Latte-S/2").unwrap()
    };
    let official = CheckpointMetadata::of_official(model, true);
    CheckpointMetadata {
        diffusion: DiffusionConfig {
            num_timesteps: 500,
            prediction: PredictionType::X0,
            variance: VarianceType::FixedLarge,
            ..official.diffusion.clone()
        },
        classes: vec!["a \"cat\"".into(), "ein Gr\u{fc}n".into()],
        // Python and JSON must restore all its digits.
        fps: 29.970_029_970_029_97,
        step: 1234,
        ..official
    }
}

/// The weights of that model.
fn write_model(path: &Path) {
    let card = card();
    let weights = Latte::new(card.model.clone()).unwrap().init(&mut TorchRng::new(5)).unwrap();
    latte_model::weights::save(path, &weights, Some(&serde_json::to_value(&card).unwrap())).unwrap();
}

type Bits = BTreeMap<String, (StoredDtype, Vec<usize>, Vec<u8>)>;

fn bits(path: &Path) -> Bits {
    let weights = Pretrained::open(path).unwrap();
    let one = |name: String| {
        let raw = weights.raw(&name).unwrap();
        (name, (raw.dtype, raw.shape, raw.bytes.into_owned()))
    };
    weights.names().into_iter().map(one).collect()
}

#[test]
fn the_case_survives_the_round_trip() {
    let place = Place::empty();
    write_model(&place.path("demo.safetensors"));
    place.ok(&["convert", "demo.safetensors", "demo.pt"]);
    let (_, told) = place.both(&["convert", "demo.pt", "back.safetensors"]);
    assert!(!told.contains("taken as"), "{told}");
    for file in ["demo.pt", "back.safetensors"] {
        let (_, found) = load_weights(&place.path(file)).unwrap();
        assert_eq!(found, card(), "{file}");
        assert_eq!(found.fps.to_bits(), card().fps.to_bits(), "{file}");
    }
    let inspected = |file: &str| {
        let told = place.ok(&["inspect", file]);
        let keep = |line: &&str| !line.contains("sha256") && !line.contains(file);
        told.lines().filter(keep).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(inspected("demo.safetensors"), inspected("demo.pt"));
    assert_eq!(inspected("demo.safetensors"), inspected("back.safetensors"));
    let sample = |file: &str, out: &str| {
        let (_, told) =
            place.both(&["sample", "--checkpoint", file, "--class", "1", "--steps", "2", "--format", "png", "--out", out]);
        assert!(!told.contains("taken"), "{told}");
        std::fs::read(place.path(out).join("contact_sheet.png")).unwrap()
    };
    let first = sample("demo.safetensors", "a");
    assert!(first == sample("demo.pt", "b") && first == sample("back.safetensors", "c"), "another video");
}

/// Every kind of weights in every pair of formats, there and back: bits, description and configuration stay the same, or the format
/// is refused.
#[test]
fn every_pair_of_formats_keeps_everything() {
    let t2v = PathBuf::from(tiny_t2v());
    let place = Place::empty();
    write_model(&place.path("class.safetensors"));
    let sources = [
        (place.path("class.safetensors"), false),
        (t2v.join("transformer"), true),
        (t2v.join("vae"), true),
        (t2v.join("vae_temporal_decoder"), true),
        (t2v.join("text_encoder"), true),
    ];
    for (number, (source, has_folder)) in sources.iter().enumerate() {
        let said = |path: &Path| {
            let weights = Pretrained::open(path).unwrap();
            (weights.files().description().unwrap(), weights.files().config().unwrap())
        };
        let name = |step: usize, format: &str| match format {
            "folder" => format!("{number}-{step}"),
            ending => format!("{number}-{step}.{ending}"),
        };
        let (start, told) = (bits(source), said(source));
        assert!(told.0.is_some() != told.1.is_some());
        for first in ["pt", "safetensors", "folder"] {
            let input = source.to_str().unwrap();
            let to_first = name(1, first);
            if first == "folder" && !has_folder {
                assert!(place.refused(&["convert", input, &to_first]).contains("diffusers has no class"));
                assert!(!place.path(&to_first).exists());
                continue;
            }
            place.ok(&["convert", input, &to_first]);
            for second in ["pt", "safetensors", "folder"].into_iter().filter(|format| *has_folder || *format != "folder") {
                // The output folder must be empty.
                let to_second = format!("{first}-{}", name(2, second));
                place.ok(&["convert", &to_first, &to_second]);
                for file in [&to_first, &to_second] {
                    assert_eq!(bits(&place.path(file)), start, "{input} as {file}");
                    assert_eq!(said(&place.path(file)), told, "{input} as {file}");
                }
            }
        }
    }
}

/// Metadata of other programs in a header is kept too.
#[test]
fn texts_in_a_header_are_kept() {
    let place = Place::empty();
    let weights = latte_ops::Parameters::from_iter([(
        "a".to_string(),
        candle_core::Tensor::new(&[1f32, 2.0], &candle_core::Device::Cpu).unwrap(),
    )]);
    latte_model::weights::save(&place.path("plain.safetensors"), &weights, None).unwrap();
    let opened = Pretrained::open(&place.path("plain.safetensors")).unwrap();
    let metadata = BTreeMap::from([("kind".to_string(), "x \u{fc}".to_string()), ("format".into(), "pt".into())]);
    let kind = latte_model::weights::FileKind::Safetensors { metadata: metadata.clone() };
    latte_model::weights::write_weights(&place.path("a.safetensors"), &kind, &["a"], &|name| opened.raw(name)).unwrap();
    place.ok(&["convert", "a.safetensors", "a.pt"]);
    place.ok(&["convert", "a.pt", "b.safetensors"]);
    let again = Pretrained::open(&place.path("b.safetensors")).unwrap();
    assert_eq!(*again.files().metadata(), metadata);
}
