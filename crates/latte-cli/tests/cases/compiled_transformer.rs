//! `compiled-transformer`: the names of a compiled module are read in every part of a model's folder.

use std::fs;

use latte_model::weights::{FileKind, Pretrained, TensorSource, write_weights};

use crate::place::Place;
use crate::{case, copy_folder, testdata};

const ARGS: [&str; 9] = ["--prompt", "a cat", "--frames", "1", "--size", "32x32", "--steps", "2", "--no-cache"];

fn picture(place: &Place, model: &str, out: &str) -> (Vec<u8>, String) {
    let (_, told) = place.both(&[&["t2v", "--model", model, "--out", out], &ARGS[..]].concat());
    let mut pictures = fs::read_dir(place.path(out)).unwrap().map(|entry| entry.unwrap().path());
    (fs::read(pictures.find(|path| path.extension().is_some_and(|e| e == "png")).unwrap()).unwrap(), told)
}

#[test]
fn a_compiled_transformer_is_read() {
    let place = case("compiled-transformer");
    copy_folder(&testdata("golden/tiny-latte-t2v"), &place.path("model"));
    let weights = place.path("model/transformer/diffusion_pytorch_model.safetensors");
    assert!(weights.is_file());
    let (plain, _) = picture(&place, "model", "plain");
    fs::copy(place.path("diffusion_pytorch_model.safetensors"), weights).unwrap();
    assert!(picture(&place, "model", "compiled").0 == plain, "another picture");
}

/// Every part of the folder is found behind wrappers, and beside an average.
#[test]
fn wrappers_and_averages_are_known_in_every_part() {
    let place = Place::empty();
    let source = testdata("golden/tiny-latte-t2v");
    copy_folder(&source, &place.path("model"));
    let (plain, _) = picture(&place, "model", "plain");
    for part in ["text_encoder", "transformer", "vae"] {
        let weights = Pretrained::open(&source.join(part)).unwrap();
        for entry in fs::read_dir(place.path("model").join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "config.json" {
                fs::remove_file(path).unwrap();
            }
        }
        let names: Vec<String> = ["model.module.", "ema_model._fsdp_wrapped_module."]
            .iter()
            .flat_map(|prefix| weights.names().into_iter().map(move |name| format!("{prefix}{name}")))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let read = |stored: &str| {
            let (prefix, name) = ["model.module.", "ema_model._fsdp_wrapped_module."]
                .iter()
                .find_map(|prefix| Some((prefix, stored.strip_prefix(prefix)?)))
                .unwrap();
            let mut tensor = weights.raw(name)?;
            if *prefix == "model.module." {
                tensor.bytes.to_mut().fill(0);
            }
            Ok(tensor)
        };
        let path = place.path("model").join(part).join("pytorch_model.bin");
        write_weights(&path, &FileKind::Torch { part: None }, &names, &read).unwrap();
    }
    let (wrapped, told) = picture(&place, "model", "wrapped");
    assert!(wrapped == plain, "another picture");
    for part in ["text_encoder", "transformer", "vae"] {
        let line = told.lines().find(|line| line.contains(&format!("model/{part}"))).unwrap_or_default();
        assert!(line.contains("the averaged weights in `ema_model` are taken"), "{part}: {told}");
    }
}
