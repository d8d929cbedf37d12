//! Prompts that are not read completely.

use std::fs;

use crate::place::Place;
use crate::{case, copy_folder, testdata, tiny_t2v};

/// Generates a video and returns the warnings.
fn warnings(place: &Place, model: &str, more: &[&str]) -> Vec<String> {
    let few = ["t2v", "--model", model, "--frames", "1", "--size", "32x32", "--steps", "1", "--out", "out"];
    let (_, stderr) = place.both(&[&few[..], more].concat());
    stderr.lines().filter(|line| line.starts_with("warning: ")).map(String::from).collect()
}

#[test]
fn the_unread_part_of_a_prompt_is_reported() {
    let place = case("prompt-cut-silently");
    // The same model with both files of the tokenizer, and with the older file only.
    copy_folder(&testdata("golden/tiny-latte-t2v"), &place.path("older"));
    fs::remove_file(place.path("older/tokenizer/tokenizer.json")).unwrap();
    for model in [tiny_t2v(), "older".to_string()] {
        let warnings = |more: &[&str]| warnings(&place, &model, more);
        let long = "a very long story about a cat ".repeat(50);
        // The second time, the encoded prompt comes from the cache.
        for _ in 0..2 {
            let told = warnings(&["--prompt", &long]);
            assert_eq!(told.len(), 1, "{told:?}");
            let told = &told[0];
            assert!(told.starts_with("warning: --prompt: it has ") && told.contains("tokens, and 120 are read"), "{told}");
            assert!(told.contains("cut before \"") && told.contains("cat a very"), "{told}");
            let told = warnings(&["--prompt", "一只猫在跳舞"]);
            assert!(told.len() == 1 && told[0].contains("leaves nothing") && told[0].contains("--no-clean-caption"), "{told:?}");
        }
        let told = warnings(&["--prompt", "一只猫在跳舞", "--no-clean-caption"]);
        assert!(told.len() == 1 && told[0].contains("does not know \"一只猫在跳舞\""), "{told:?}");
        let told = warnings(&["--prompt", "a cat", "--negative", &long]);
        assert!(told.len() == 1 && told[0].starts_with("warning: --negative: it has "), "{told:?}");
        let told = warnings(&["--prompt", "a cat", "--negative", "a dog in the sea", "--compat-masking"]);
        assert!(told.len() == 1 && told[0].contains("as many as the prompt has"), "{told:?}");
        let told = warnings(&["--prompt", "a cat", "--negative", &long, "--guidance", "1"]);
        assert!(told.len() == 1 && told[0].contains("is not read with a guidance of 1"), "{told:?}");
        fs::write(place.path("prompts.txt"), format!("a cat\n\n{long}\na dog 犬\n")).unwrap();
        let told = warnings(&["--prompt-file", "prompts.txt", "--num", "2"]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("warning: prompts.txt, line 3: it has "), "{told:?}");
        assert!(told[1].starts_with("warning: prompts.txt, line 4: cleaning takes out \"犬\""), "{told:?}");
        for nothing_is_lost in ["", "a cat", "A dog, in the sea."] {
            assert_eq!(warnings(&["--prompt", nothing_is_lost]), [""; 0], "{nothing_is_lost}");
        }
    }
    // The settings beside an image have the whole prompt, so the warning is repeated when it is generated again.
    fs::remove_dir_all(place.path("out")).unwrap();
    warnings(&place, "older", &["--prompt", "a dog 犬", "--seed", "7"]);
    let sidecar = crate::names(&place.path("out")).remove(0);
    let (_, stderr) = place.both(&["t2v", "--from", &format!("out/{sidecar}"), "--out", "again"]);
    assert!(stderr.contains(&format!("warning: out/{sidecar}, prompt: cleaning takes out \"犬\"")), "{stderr}");
}
