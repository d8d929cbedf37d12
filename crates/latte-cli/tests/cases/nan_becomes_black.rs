//! `nan-becomes-black`: values that are not finite are an error where they occur, never black pixels.

use std::fs;

use latte_model::weights::{FileKind, Pretrained, TensorSource, write_weights};

use crate::place::{Place, text};
use crate::{case, copy_folder, testdata};

/// Runs and expects exit code 1, as for a loss that is NaN.
fn fails(place: &Place, args: &[&str]) -> String {
    let output = place.latte(args);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    told
}

#[test]
fn sampling_says_that_the_network_gives_no_finite_values() {
    let place = case("nan-becomes-black");
    for sampler in ["ddim", "ddpm"] {
        let told =
            fails(&place, &["sample", "--checkpoint", "nan.safetensors", "--steps", "2", "--sampler", sampler, "--out", "out"]);
        assert!(told.contains("what the network predicts in step 1 of 2") && told.contains("not finite"), "{told}");
        assert!(told.contains("the weights themselves are not: ") && told.contains(" of ") && told.contains(" in `"), "{told}");
        let files = fs::read_dir(place.path("out")).map_or(0, Iterator::count);
        assert_eq!(files, 0, "a video was written");
    }
}

#[test]
fn convert_and_inspect_name_the_tensors() {
    let place = case("nan-becomes-black");
    let told = place.ok(&["inspect", "nan.safetensors"]);
    let line = told.lines().find(|line| line.trim_start().starts_with("not finite")).unwrap_or_else(|| panic!("{told}"));
    let name = line.split('`').nth(1).unwrap();
    let (_, told) = place.both(&["convert", "nan.safetensors", "nan.pt"]);
    assert!(told.contains("not finite") && told.contains(&format!("`{name}`")), "{told}");
    let bytes = |file: &str| Pretrained::open(&place.path(file)).unwrap().raw(name).unwrap().bytes.into_owned();
    assert_eq!(bytes("nan.safetensors"), bytes("nan.pt"));
}

/// Each part of a text-to-video model, with one NaN in its last bias.
#[test]
fn every_part_of_a_text_to_video_model_is_checked() {
    for (part, tensor, told) in [
        ("text_encoder", "encoder.final_layer_norm.weight", "what the text encoder gives"),
        ("transformer", "proj_out.bias", "what the network predicts in step 1 of 2"),
        ("vae", "decoder.conv_out.bias", "what the autoencoder makes of the latents"),
    ] {
        let place = Place::empty();
        copy_folder(&testdata("golden/tiny-latte-t2v"), &place.path("model"));
        let folder = place.path("model").join(part);
        let file = ["model.safetensors", "diffusion_pytorch_model.safetensors"].map(|name| folder.join(name));
        let file = file.into_iter().find(|path| path.is_file()).unwrap();
        let weights = Pretrained::open(&file).unwrap();
        let names = weights.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let read = |name: &str| {
            let mut raw = weights.raw(name)?;
            if name == tensor {
                let size = raw.dtype.size();
                raw.bytes.to_mut()[..size].fill(0xff);
            }
            Ok(raw)
        };
        assert!(names.contains(&tensor), "{part}: {names:?}");
        let kind = FileKind::Safetensors { metadata: std::collections::BTreeMap::new() };
        write_weights(&file, &kind, &names, &read).unwrap();
        let args = ["t2v", "--model", "model", "--prompt", "a cat", "--frames", "1", "--size", "32x32", "--steps", "2"];
        let message = fails(&place, &args);
        assert!(message.contains(told) && message.contains("not finite"), "{part}: {message}");
        assert!(
            !fs::read_dir(place.path("samples")).is_ok_and(|mut files| files.next().is_some()),
            "{part}: something was written"
        );
    }
}
