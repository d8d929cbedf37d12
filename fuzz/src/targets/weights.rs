//! Weights, features and tokenizers.

use std::path::Path;

use latte_eval::detector;
use latte_eval::interop::{open_features, open_matrix};
use latte_model::text::Tokenizer;
use latte_model::weights::{FileKind, Pretrained, TensorSource, WeightFiles, write_weights};

use super::{file, files, repository, written};

/// Maximum number of values of a tensor: a few bytes must not request a large tensor.
const MAX_VALUES: usize = 1 << 22;

/// Opens the file, reads every tensor, and detects the kind of the weights.
pub(super) fn read(path: &Path) -> bool {
    let Ok(files) = WeightFiles::open(path) else { return false };
    for name in files.names() {
        let _ = files.raw(&name);
        if files.num_values(&name).is_some_and(|n| n < MAX_VALUES) {
            let _ = files.f32_tensor(&name);
        }
    }
    let _ = (files.description(), detector::import(path, None));
    Pretrained::new(files).is_ok_and(|found| {
        let _ = (
            found.kind(),
            found.dtypes(),
            latte_model::model::LatteConfig::from_weights(&found, latte_model::model::ConfigHints::default()),
        );
        true
    })
}

/// Small files, those of the tests, and one with features.
pub(super) fn safetensors() -> Result<Vec<Vec<u8>>, String> {
    Ok([files("fuzz/corpus/safetensors", &["safetensors"])?, files("testdata/golden", &["safetensors"])?].concat())
}

/// Opens a file of features or statistics, also as a plain matrix.
pub(super) fn features(path: &Path) -> bool {
    let matrix = open_matrix(path, None).is_ok();
    open_features(path).is_ok() || matrix
}

/// Archives of arrays: mean and covariance, and a single matrix, in both precisions, one in column-major order.
pub(super) fn npz() -> Vec<Vec<u8>> {
    let wide = |n: usize| (0..n).flat_map(|i| (i as f64).to_le_bytes()).collect::<Vec<u8>>();
    let narrow = |n: usize| (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>();
    vec![
        zip(&[("mu.npy", numpy("<f8", "(2,)", false, &wide(2))), ("sigma.npy", numpy("<f8", "(2, 2)", false, &wide(4)))]),
        zip(&[("mu.npy", numpy("<f4", "(3,)", false, &narrow(3))), ("sigma.npy", numpy("<f4", "(3, 3)", false, &narrow(9)))]),
        zip(&[("x.npy", numpy("<f4", "(5, 3)", false, &narrow(15)))]),
        zip(&[("x.npy", numpy("<f8", "(5, 3)", true, &wide(15)))]),
    ]
}

/// An array in the format of numpy.
fn numpy(dtype: &str, shape: &str, by_columns: bool, values: &[u8]) -> Vec<u8> {
    let order = if by_columns { "True" } else { "False" };
    let header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// An archive with uncompressed entries.
fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let len = (content.len() as u32).to_le_bytes();
        let shared =
            [&b"\x14\0\0\0\0\0\0\0\0\0"[..], &sum.sum().to_le_bytes(), &len, &len, &(name.len() as u16).to_le_bytes(), b"\0\0"]
                .concat();
        let offset = (bytes.len() as u32).to_le_bytes();
        list.extend([&b"PK\x01\x02\x14\0"[..], &shared, &[0; 10], &offset, name.as_bytes()].concat());
        bytes.extend([&b"PK\x03\x04"[..], &shared, name.as_bytes(), content].concat());
    }
    let (count, start) = ((entries.len() as u16).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &(list.len() as u32).to_le_bytes(), &start, b"\0\0"].concat();
    [bytes, list, end].concat()
}

/// Feature files in the format of `latte eval merge`.
pub(super) fn feature_files() -> Result<Vec<Vec<u8>>, String> {
    let origin = r#"{"detector":{"kind":"test","source":"nowhere","weights":"seed 1"},"preparation":{"resize":"half_pixel_bilinear","values":"minus_one_to_one"},"set":{"path":"a/b","videos":2,"too_short":0,"unreadable":[],"clips":2,"frames":16,"stride":1,"frame_size":[8,8],"content":"abc"}}"#;
    let description =
        format!(r#"{{"format":"latte-features","origin":{origin},"names":["a","b"],"unreadable":[],"brightest":200}}"#);
    let metadata = [("latte".to_string(), description)].into_iter().collect();
    let features = written("features.safetensors", |path| {
        let bytes: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let raw = |_: &str| {
            Ok(latte_model::weights::RawTensor {
                dtype: latte_model::weights::StoredDtype::F32,
                shape: vec![2, 4],
                bytes: bytes.clone().into(),
            })
        };
        write_weights(path, &FileKind::Safetensors { metadata }, &["logits"], &raw).map_err(|e| e.to_string())
    })?;
    Ok(vec![features])
}

/// Opens the tokenizer of a SentencePiece model, and encodes texts.
pub(super) fn spiece(path: &Path) -> bool {
    path.parent().is_some_and(|folder| Tokenizer::from_sentencepiece(folder).is_ok_and(|tokenizer| ids(&tokenizer)))
}

/// The same for a `tokenizer.json`.
pub(super) fn tokenizer(path: &Path) -> bool {
    path.parent().is_some_and(|folder| Tokenizer::from_json(folder).is_ok_and(|tokenizer| ids(&tokenizer)))
}

pub(super) fn tokenizers() -> Result<Vec<Vec<u8>>, String> {
    let whole = file(&repository("testdata/golden/tiny-latte-t2v/tokenizer/tokenizer.json"))?;
    let mut json: serde_json::Value = serde_json::from_slice(&whole).map_err(|e| e.to_string())?;
    let write = |json: &serde_json::Value| serde_json::to_vec_pretty(json).map_err(|e| e.to_string());
    // A vocabulary of thousands of pieces and tables of characters are shortened, because most changes would fall into them.
    if let Some(vocabulary) = json["model"]["vocab"].as_array_mut() {
        vocabulary.truncate(40);
    }
    let with_tables = write(&json)?;
    json["normalizer"] = serde_json::Value::Null;
    Ok(vec![write(&json)?, write(&json)?, write(&json)?, with_tables])
}

pub(super) const WORDS: &[&str] =
    &["Unigram", "BPE", "Metaspace", "Precompiled", "Replace", "Sequence", "unk_id", "vocab", "<unk>", "▁"];

/// Encodes texts: ASCII, accents as combined and separate characters, other scripts, text that no piece matches, and a long text.
fn ids(tokenizer: &Tokenizer) -> bool {
    let texts =
        ["", "a cat", "aaa  <sep>b</s> <extra_id_0>", "e\u{301}\u{e9} \u{fb01}\u{2126} \u{732b} \u{1f408}\u{200d}\u{2b1b}"];
    let short = texts.iter().all(|text| tokenizer.encode(text, 120).is_ok());
    tokenizer.ids(&"ab\u{e9} ".repeat(500)).is_ok() && short
}
