//! The readers: one line for each kind of foreign file.

mod configurations;
mod tables;
mod videos;
mod weights;

use std::path::{Path, PathBuf};

use crate::damage::Form;

/// A reader and its input.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// The required name of the file.
    pub(crate) file: &'static str,
    /// Reads the file; returns whether the reader accepted it.
    pub(crate) read: fn(&Path) -> bool,
    /// The sound files that damaged ones are made from.
    pub(crate) seeds: fn() -> Result<Vec<Vec<u8>>, String>,
    pub(crate) form: Form,
    /// Words that are inserted into a text.
    pub(crate) words: &'static [&'static str],
}

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    bytes("pickle", "weights.pt", Form::Zip, weights::read, || files("testdata/weights", &["pt"])),
    bytes("safetensors", "weights.safetensors", Form::Safetensors, weights::read, weights::safetensors),
    bytes("npz", "features.npz", Form::Zip, weights::features, || Ok(weights::npz())),
    bytes("features", "features.safetensors", Form::Safetensors, weights::features, weights::feature_files),
    bytes("spiece", "spiece.model", Form::Bytes, weights::spiece, || files("fuzz/corpus/spiece", &["model"])),
    text("tokenizer_json", "tokenizer.json", weights::tokenizer, weights::tokenizers, weights::WORDS),
    bytes("mp4", "video.mp4", Form::Mp4, videos::read, || files("testdata/clips", &["mp4"])),
    bytes("matroska", "video.mkv", Form::Matroska, videos::read, || files("testdata/clips", &["mkv", "webm"])),
    bytes("png", "image.png", Form::Png, videos::image, || files("testdata/clips", &["png"])),
    bytes("jpeg", "image.jpg", Form::Bytes, videos::image, videos::jpegs),
    text("frame_names", "names.txt", videos::frame_names, || Ok(videos::names()), videos::NAMES),
    bytes("tar", "shard.tar", Form::Tar, tables::shards, tables::archives),
    text("csv", "list.csv", tables::manifest, || Ok(tables::manifests(",")), tables::WORDS),
    text("tsv", "list.tsv", tables::manifest, || Ok(tables::manifests("\t")), tables::WORDS),
    text("jsonl", "list.jsonl", tables::manifest, || Ok(tables::json_lines()), tables::WORDS),
    text("image_list", "list.txt", tables::images, || Ok(tables::image_lists()), tables::WORDS),
    text("index", "index.jsonl", tables::index, tables::indices, tables::WORDS),
    text("scheduler", "scheduler_config.json", configurations::scheduler, configurations::schedulers, configurations::SCHEDULER),
    text("model_config", "config.json", configurations::model, configurations::models, configurations::MODEL),
    text("training_toml", "train.toml", configurations::training, || files("configs", &["toml"]), configurations::TRAINING),
    text("official_yaml", "train.yaml", configurations::official, || files("fuzz/corpus/official_yaml", &["yaml"]), &[]),
];

/// Maximum size in bytes: larger files only slow a run down.
const MAX_BYTES: u64 = 64 << 10;

type Seeds = fn() -> Result<Vec<Vec<u8>>, String>;

const fn bytes(name: &'static str, file: &'static str, form: Form, read: fn(&Path) -> bool, seeds: Seeds) -> Target {
    Target { name, file, read, seeds, form, words: &[] }
}

const fn text(
    name: &'static str,
    file: &'static str,
    read: fn(&Path) -> bool,
    seeds: Seeds,
    words: &'static [&'static str],
) -> Target {
    Target { name, file, read, seeds, form: Form::Text, words }
}

impl Target {
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            format!("no target is called `{name}`; expected one of {}", names.join(", "))
        })
    }
}

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The files of a folder of the repository with one of these extensions, sorted by name.
fn files(folder: &str, endings: &[&str]) -> Result<Vec<Vec<u8>>, String> {
    let folder = repository(folder);
    let wrong = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(wrong)? {
        paths.push(entry.map_err(wrong)?.path());
    }
    paths.sort();
    let is_wanted = |path: &&PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        endings.contains(&ending) && path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < MAX_BYTES)
    };
    paths.iter().filter(is_wanted).map(|path| file(path)).collect()
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The bytes that `write` writes to the path that it gets.
fn written(name: &str, write: impl FnOnce(&Path) -> Result<(), String>) -> Result<Vec<u8>, String> {
    let path = std::env::temp_dir().join(format!("latte-fuzz-seed-{}-{name}", std::process::id()));
    let bytes = write(&path).and_then(|()| file(&path));
    // A failure to remove it only takes disk space.
    let _ = std::fs::remove_file(&path);
    bytes
}
