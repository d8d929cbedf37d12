//! `testdata/cases/byte-order-mark`: text files with a byte order mark and Windows line ends are read like those without, and files
//! in other encodings are named in an error.

use std::fs;
use std::path::Path;

use super::place::Place;
use super::{case, copy_folder, tiny_t2v};

/// Checks the images that `images.txt` lists.
const CHECK_IMAGES: [&str; 12] = [
    "data",
    "check",
    "--layout",
    "faceforensics",
    "--path",
    "videos",
    "--image-list",
    "images.txt",
    "--image-path",
    "images",
    "--num-frames",
    "4",
];

#[test]
fn labels_and_lists_with_a_mark_are_read() {
    let place = case("byte-order-mark");
    place.ok(&["data", "index", "--layout", "shards", "--path", "labels.tar", "--out", "x.jsonl", "--decoder", "built_in"]);
    let index = fs::read_to_string(place.path("x.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = index.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 11);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(
            (line["name"].as_str().unwrap().ends_with(&format!("{number:04}")), line["label"].as_u64()),
            (true, Some(number as u64)),
            "{line}"
        );
    }
    let said = place.ok(&CHECK_IMAGES);
    assert!(said.contains("3 images in images.txt") && !said.contains("missing"), "{said}");
}

/// The form of a file: with a byte order mark and Windows line ends, or UTF-16.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Marked,
    Wide,
}

/// Rewrites a text file.
fn rewrite(path: &Path, form: Form) {
    let text = fs::read_to_string(path).unwrap();
    let bytes = match form {
        Form::Plain => text.into_bytes(),
        Form::Marked => format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes(),
        Form::Wide => format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect(),
    };
    fs::write(path, bytes).unwrap();
}

/// A folder with everything that the commands below read.
fn place_of_all() -> Place {
    let place = case("byte-order-mark");
    copy_folder(Path::new(&tiny_t2v()), &place.path("model"));
    copy_folder(&super::testdata("cases/check-and-train-disagree"), &place.path("."));
    fs::write(place.path("list.csv"), "path,text\na.mp4,x\n").unwrap();
    fs::write(place.path("list.tsv"), "path\ttext\na.mp4\tx\n").unwrap();
    fs::write(place.path("list.jsonl"), "{\"path\":\"a.mp4\",\"text\":\"x\"}\n").unwrap();
    fs::write(place.path("list.json"), "[{\"path\":\"a.mp4\",\n\"text\":\"x\"}]\n").unwrap();
    fs::write(place.path("prompts.txt"), "a cat\na dog\n").unwrap();
    place
}

/// Every text file that a command line option can name, with a command that reads it.
#[test]
fn every_reader_skips_a_mark_and_names_other_encodings() {
    let tiny = ["--frames", "2", "--size", "32x32", "--steps", "1"];
    let check = |file: &'static str| {
        vec![
            "data",
            "check",
            "--layout",
            "manifest",
            "--path",
            file,
            "--video-path",
            "videos",
            "--num-frames",
            "4",
            "--decoder",
            "built_in",
        ]
    };
    let t2v = [&["t2v", "--model", "model", "--prompt-file", "prompts.txt", "--out", "made", "--no-cache"][..], &tiny].concat();
    let again = vec!["t2v", "--from", "made/a_cat_seed0.json", "--out", "again", "--no-cache"];
    let data = |more: &[&'static str]| [&["data", "check", "--config", "tiny.toml"][..], more].concat();
    let readers: Vec<(&str, Vec<&str>)> = vec![
        ("list.csv", check("list.csv")),
        ("list.tsv", check("list.tsv")),
        ("list.jsonl", check("list.jsonl")),
        ("list.json", check("list.json")),
        ("images.txt", CHECK_IMAGES.to_vec()),
        ("tiny.toml", data(&[])),
        ("clips.index.jsonl", vec!["data", "check", "--path", "clips", "--index", "clips.index.jsonl", "--num-frames", "4"]),
        ("prompts.txt", t2v.clone()),
        ("model/scheduler/scheduler_config.json", t2v.clone()),
        ("model/transformer/config.json", t2v.clone()),
        ("model/text_encoder/config.json", t2v.clone()),
        ("model/vae/config.json", t2v.clone()),
        ("model/tokenizer/tokenizer.json", t2v.clone()),
        ("made/a_cat_seed0.json", again),
    ];
    let place = place_of_all();
    place.ok(&["data", "index", "--path", "clips"]);
    place.ok(&t2v);
    for (file, args) in &readers {
        let outcome = |form: Form| {
            let kept = fs::read(place.path(file)).unwrap();
            rewrite(&place.path(file), form);
            let output = place.latte(args);
            fs::write(place.path(file), kept).unwrap();
            output
        };
        let plain = outcome(Form::Plain);
        assert!(plain.status.success(), "{file}: {}", super::place::text(&plain.stderr));
        let made = || fs::read(place.path("made/a_cat_seed0.mp4")).unwrap();
        let video = made();
        let marked = outcome(Form::Marked);
        // The times of stages are on standard error.
        let said = super::place::text(&marked.stderr);
        assert!(marked.status.success() && marked.stdout == plain.stdout && made() == video, "{file}: {said}");
        let wide = outcome(Form::Wide);
        let said = super::place::text(&wide.stderr) + &super::place::text(&wide.stdout);
        assert_eq!(wide.status.code(), Some(2), "{file}: {said}");
        assert!(said.contains("it is UTF-16; save it as UTF-8"), "{file}: {said}");
    }
}
