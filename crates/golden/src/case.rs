//! One golden file in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// What can be wrong with a golden file.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what a golden file must be.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// A tensor, row-major. Integers and booleans are widened to `f64` exactly.
#[derive(Debug, Clone)]
pub struct Array {
    /// The length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f64>,
}

impl Array {
    /// The values as `f32` (exact for files that hold `f32`).
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// The `index`-th slice along the first axis.
    ///
    /// # Panics
    ///
    /// If there is no such slice.
    pub fn slice(&self, index: usize) -> Self {
        let shape = self.shape[1..].to_vec();
        let len: usize = shape.iter().product();
        Self { values: self.values[index * len..(index + 1) * len].to_vec(), shape }
    }
}

/// A golden file: `param.*`, `in.*` and `out.*` tensors and the configuration they were made with.
#[derive(Debug, Clone)]
pub struct Case {
    /// Where it lies.
    pub path: PathBuf,
    /// Which kind it is.
    pub kind: String,
    /// The configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// All tensors by name.
    pub tensors: BTreeMap<String, Array>,
}

impl Case {
    /// Reads a `.safetensors` golden file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no safetensors file, or lacks `kind` or `config`.
    pub fn read(path: &Path) -> Result<Self, GoldenError> {
        let bad = |what: String| GoldenError::Format { path: path.to_path_buf(), what };
        let bytes = std::fs::read(path).map_err(|source| GoldenError::Read { path: path.to_path_buf(), source })?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(format!("no safetensors file: {e}")))?;
        let meta = header.metadata().clone().unwrap_or_default();
        let kind = meta.get("kind").ok_or_else(|| bad("metadata has no `kind`".into()))?.clone();
        let config = meta.get("config").map_or("{}", String::as_str);
        let config = serde_json::from_str(&standard_json(config)).map_err(|e| bad(format!("`config` is no JSON object: {e}")))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let values = widen(view.dtype(), view.data())
                .ok_or_else(|| bad(format!("{name}: dtype {:?} is not read here", view.dtype())))?;
            tensors.insert(name.to_string(), Array { shape: view.shape().to_vec(), values });
        }
        Ok(Self { path: path.to_path_buf(), kind, config, tensors })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    ///
    /// If the file has none.
    pub fn tensor(&self, name: &str) -> Result<&Array, GoldenError> {
        self.tensors.get(name).ok_or_else(|| GoldenError::Format { path: self.path.clone(), what: format!("no tensor `{name}`") })
    }

    /// All tensors whose names begin with `prefix`, by the rest of the name.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Array)> {
        self.tensors.iter().filter_map(move |(name, array)| name.strip_prefix(prefix).map(|rest| (rest, array)))
    }
}

/// Python writes `Infinity`, `-Infinity` and `NaN` as bare words, which JSON does not know; here they become strings.
fn standard_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Every second part lies inside a string; no configuration has escaped quotes.
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        if index % 2 == 1 {
            out.push_str(part);
        } else {
            let quoted = part.replace("NaN", "\"NaN\"").replace("Infinity", "\"Infinity\"");
            out.push_str(&quoted.replace("-\"Infinity\"", "\"-Infinity\""));
        }
    }
    out
}

fn widen(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
    }
    Some(match dtype {
        Dtype::F64 => each(data, f64::from_le_bytes),
        Dtype::F32 => each(data, |b| f32::from_le_bytes(b) as f64),
        Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(data, |b| i32::from_le_bytes(b) as f64),
        Dtype::U8 | Dtype::BOOL => each(data, |b: [u8; 1]| b[0] as f64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_of_python_become_strings_and_strings_stay() {
        let text = r#"{"a": -Infinity, "Infinity": [Infinity, 1.5], "b": "NaN or -Infinity", "c": NaN}"#;
        let value: serde_json::Value = serde_json::from_str(&standard_json(text)).unwrap();
        let expected = serde_json::json!({"a": "-Infinity", "Infinity": ["Infinity", 1.5], "b": "NaN or -Infinity", "c": "NaN"});
        assert_eq!(value, expected);
    }
}
