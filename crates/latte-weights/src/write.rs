//! Writes stored weights into a file of another kind, bit for bit: no value is converted or rounded.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::Value;

use super::stored::RawTensor;
use super::{safetensors_file, torch};
use crate::{Error, Result};

/// The kind of file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A safetensors file with these texts in its header.
    Safetensors {
        /// The texts.
        metadata: BTreeMap<String, String>,
    },
    /// PyTorch's zip archive, which `torch.load(path, weights_only=True)` reads.
    Torch {
        /// The key of the dictionary that holds the tensors, such as `ema`; `None` for a plain state dict.
        part: Option<String>,
    },
    /// PyTorch's zip archive of a dictionary that also holds other values.
    TorchWithValues {
        /// The key of the dictionary that holds the tensors.
        part: String,
        /// The plain values beside it, by key.
        values: BTreeMap<String, Value>,
    },
}

/// Writes a file beside weights, such as a configuration, atomically ([`latte_files::write_atomically`]).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    latte_files::write_atomically(path, bytes).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// Writes the tensors `names` atomically; `read` returns each of them twice, so that only one is in memory.
///
/// # Errors
///
/// If `read` fails, the kind of file does not support a dtype, or the disk fails.
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
