//! The part of `unclear-errors` that is about weights: files whose contents do not fit their names, and outputs without a folder.

use std::fs;

use crate::place::Place;
use crate::{case, copy_folder, testdata};

#[test]
fn a_pointer_in_the_place_of_the_tokenizer_is_named() {
    let place = case("unclear-errors");
    copy_folder(&testdata("golden/tiny-latte-t2v"), &place.path("model"));
    fs::remove_file(place.path("model/tokenizer/tokenizer.json")).unwrap();
    fs::copy(place.path("spiece.model"), place.path("model/tokenizer/spiece.model")).unwrap();
    let message =
        place.refused(&["t2v", "--model", "model", "--prompt", "a", "--frames", "1", "--size", "32x32", "--steps", "2"]);
    assert!(message.contains("spiece.model") && message.contains("git lfs pull"), "{message}");
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_is_read() {
    let place = Place::empty();
    // There are no weights: if they were read first, the error would be about them.
    fs::write(place.path("a.pt"), "nothing").unwrap();
    for output in ["a.pt/b.safetensors", "a.pt/b.pt", "a.pt/b"] {
        let message = place.refused(&["convert", "a.pt", output]);
        assert!(message.starts_with(&format!("error: the output {output}: ")) && !message.contains(".tmp"), "{message}");
    }
    // A missing folder is created, as for every output.
    let message = place.refused(&["convert", "a.pt", "new/folder/b.pt"]);
    assert!(message.contains("a.pt: is neither a PyTorch file") && place.path("new/folder").is_dir(), "{message}");
    fs::create_dir(place.path("b.pt")).unwrap();
    assert!(place.refused(&["convert", "a.pt", "b.pt"]).contains("is a folder"));
    fs::write(place.path("folder"), "a file").unwrap();
    assert!(place.refused(&["convert", "a.pt", "folder"]).contains("is a file"));
}

/// Each file of a model's folder in turn is replaced.
#[test]
fn each_replaced_file_of_a_model_is_named() {
    let contents: [(&[u8], &str); 3] = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "web page"),
        (b"", "is empty"),
    ];
    let source = testdata("golden/tiny-latte-t2v");
    let weights = |part: &str| {
        let names = ["model.safetensors", "diffusion_pytorch_model.safetensors"];
        names.into_iter().map(|name| format!("{part}/{name}")).find(|file| source.join(file).is_file()).unwrap()
    };
    let files = [
        "scheduler/scheduler_config.json".to_string(),
        "tokenizer/tokenizer.json".into(),
        "text_encoder/config.json".into(),
        "transformer/config.json".into(),
        "vae/config.json".into(),
        weights("text_encoder"),
        weights("transformer"),
        weights("vae"),
    ];
    let place = Place::empty();
    copy_folder(&source, &place.path("model"));
    for file in &files {
        let path = place.path("model").join(file);
        let before = fs::read(&path).unwrap();
        for (bytes, told) in contents {
            fs::write(&path, bytes).unwrap();
            let args = ["t2v", "--model", "model", "--prompt", "a", "--frames", "1", "--size", "32x32", "--steps", "2"];
            let message = place.refused(&args);
            assert!(message.contains(file) && message.contains(told), "{file}: {message}");
        }
        fs::write(&path, before).unwrap();
    }
}
