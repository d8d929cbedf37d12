//! Writes weights that lie in files into a file of another kind, as they are: no value changes, none is rounded.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::Value;

use super::stored::RawTensor;
use super::{safetensors_file, torch};
use crate::{Error, Result};

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A safetensors file with these texts in its header.
    Safetensors {
        /// The texts.
        metadata: BTreeMap<String, String>,
    },
    /// PyTorch's zip archive, which `torch.load(path, weights_only=True)` reads.
    Torch {
        /// The key of the dictionary that the tensors are in, as `ema`; none for a plain state dict.
        part: Option<String>,
    },
    /// The same of a dictionary that holds more than tensors.
    TorchWithValues {
        /// The key of the dictionary that the tensors are in.
        part: String,
        /// What lies beside it: plain values, by their keys.
        values: BTreeMap<String, Value>,
    },
}

/// Writes a file that lies beside weights, such as a configuration; it is complete or not there ([`latte_files::write_atomically`]).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    latte_files::write_atomically(path, bytes).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// Writes the tensors called `names`; `read` gives each, twice, so that one at a time is in memory. The file is complete or not
/// there.
///
/// # Errors
///
/// If `read` fails, the kind of file has no such type of values, or the disk fails.
pub fn write_weights<'t>(
    path: &Path,
    kind: &FileKind,
    names: &[&str],
    read: &dyn Fn(&str) -> Result<RawTensor<'t>>,
) -> Result<()> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    latte_files::write_renamed(path, failed, |file| {
        let mut out = BufWriter::new(file);
        match kind {
            FileKind::Safetensors { metadata } => safetensors_file::write(&mut out, names, metadata, read, &failed)?,
            FileKind::Torch { part } => {
                let none = BTreeMap::new();
                torch::write_torch(&mut out, part.as_deref().map(|part| (part, &none)), names, read, &failed)?;
            }
            FileKind::TorchWithValues { part, values } => {
                torch::write_torch(&mut out, Some((part, values)), names, read, &failed)?;
            }
        }
        out.flush().map_err(failed)
    })
}
