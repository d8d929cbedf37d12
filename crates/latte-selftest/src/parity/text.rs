//! Kinds `t5` and `tokens`: the text encoder and its tokenizer.

use std::path::{Path, PathBuf};

use candle_core::Device;
use golden::{Array, Case, Check};
use latte::NoProgress;
use latte_model::text::{MAX_LENGTH, T5Config, T5Encoder, Tokenizer};
use serde::Deserialize;

use super::tensors::{Result, parameters, values};

const ENCODED: f64 = 1e-5;

pub(crate) fn t5(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config: T5Config = serde_json::from_value(case.config.clone().into())?;
    let weights = parameters(&case)?;
    let rows = |name: &str| -> Result<Vec<Vec<u32>>> {
        let array: &Array = case.tensor(name)?;
        Ok(array.values.chunks(array.shape[1]).map(|row| row.iter().map(|&v| v as u32).collect()).collect())
    };
    let encoder = T5Encoder::new(config, &weights)?.on(device);
    let ours = encoder.forward(&rows("in.ids")?, &rows("in.mask")?, &mut NoProgress)?;
    let values = values(&ours)?;
    let reference = case.with_prefix("out.").map(|(name, array)| Check::new_f32(name, &values, array, ENCODED));
    Ok(reference.collect())
}

/// One text of a file of kind `tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenCase {
    text: String,
    ids: Vec<u32>,
    ids_120: Vec<u32>,
}

/// The folder of a file's cases: `tiny-latte-t2v*` in the same directory.
pub(crate) fn folder_beside(path: &Path) -> Result<PathBuf> {
    let directory = path.parent().ok_or("the file lies in no directory")?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("tiny-latte-t2v") && entry.path().is_dir() {
            return Ok(entry.path());
        }
    }
    Err(format!("no folder tiny-latte-t2v* in {}", directory.display()).into())
}

pub(crate) fn tokens(path: &Path) -> Result<Vec<Check>> {
    let cases: Vec<TokenCase> = serde_json::from_slice(&std::fs::read(path)?)?;
    let folder = folder_beside(path)?.join("tokenizer");
    let mut checks = Vec::new();
    for (name, tokenizer) in
        [("tokenizer.json", Tokenizer::from_json(&folder)?), ("spiece.model", Tokenizer::from_sentencepiece(&folder)?)]
    {
        let mut wrong = Vec::new();
        for case in &cases {
            let padded = tokenizer.encode(&case.text, MAX_LENGTH)?;
            if tokenizer.ids(&case.text)? != case.ids
                || padded.ids != case.ids_120
                || padded.length != case.ids.len().min(MAX_LENGTH)
            {
                wrong.push(format!("{:?}", case.text));
            }
        }
        if !wrong.is_empty() {
            return Err(
                format!("{name}: {} of {} texts have other tokens: {}", wrong.len(), cases.len(), wrong.join(", ")).into()
            );
        }
        checks.push(Check { what: format!("{} texts by {name}", cases.len()), error: 0.0, tolerance: 0.0 });
    }
    Ok(checks)
}
