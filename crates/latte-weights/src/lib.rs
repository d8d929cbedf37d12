//! Weights in memory, in this program's files, and in the files of other programs. This crate knows names, shapes and bytes, but no
//! model.
//!
//! This program writes safetensors files with a description in the header ([`save`], [`load`]). [`WeightFiles`] opens the files of
//! other programs, and [`Pretrained`] finds the weights of a model in them.

mod error;
mod files;
mod finite;
mod map;
mod mixup;
mod numpy;
mod parts;
mod pretrained;
mod safetensors_file;
mod source;
mod stored;
mod torch;
mod write;

use std::path::Path;

use candle_core::DType;
use latte_ops::Parameters;
use serde_json::Value;

pub use error::{Error, Result};
pub use files::{WeightFiles, read_json, read_json_if_there, read_small};
pub use mixup::mixed_up;
pub use parts::{IsWanted, PartChoice};
pub use pretrained::{Pretrained, STABLE_DIFFUSION_AUTOENCODER, WeightKind};
pub use source::{TensorSource, all_fit, expect_tensor, expect_tensor_on, listed, misfits};
pub use stored::{RawTensor, StoredDtype};
pub use write::{FileKind, write_atomically, write_weights};

/// The file name of a configuration beside weights in a folder.
pub const CONFIG: &str = "config.json";
/// The metadata key of a file's description, as JSON.
pub const DESCRIPTION: &str = "latte";

/// The key, in a PyTorch file, of the texts that a safetensors file has in its header.
pub const TEXTS: &str = "metadata";

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The error of a file that cannot be used: its path and the reason.
pub fn refuse(path: &Path, what: impl Into<String>) -> Error {
    Error::File { path: path.to_path_buf(), what: what.into() }
}

/// Writes tensors (as f32) and a description of them; copies one tensor at a time. The write is atomic: the file is written under
/// another name, flushed to the disk, then renamed.
///
/// # Errors
///
/// If the file cannot be written.
pub fn save(path: &Path, tensors: &Parameters, description: Option<&Value>) -> Result<()> {
    let read = |name: &str| {
        let tensor = tensors.get(name)?.to_host()?;
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(RawTensor { dtype: StoredDtype::F32, shape: tensor.dims().to_vec(), bytes: bytes.into() })
    };
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name).collect();
    let metadata = description.map(|d| (DESCRIPTION.to_string(), d.to_string())).into_iter().collect();
    write_weights(path, &FileKind::Safetensors { metadata }, &names, &read)
}

/// Reads all tensors, as f32, and the description if there is one.
///
/// # Errors
///
/// If the file cannot be read, is damaged, or holds tensors that are not floats.
pub fn load(path: &Path) -> Result<(Parameters, Option<Value>)> {
    let files = WeightFiles::open(path)?;
    let description = files.description()?;
    let tensors = files.names().into_iter().map(|name| Ok((name.clone(), files.f32_tensor(&name)?))).collect::<Result<_>>()?;
    Ok((tensors, description))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn example() -> Result<Parameters> {
        Ok([
            ("a.weight".to_string(), Tensor::new(&[[1f32, f32::MIN_POSITIVE], [-0.0, 3.5]], &Device::Cpu)?),
            ("b".to_string(), Tensor::new(2.5f32, &Device::Cpu)?),
        ]
        .into_iter()
        .collect())
    }

    #[test]
    fn tensors_and_description_come_back_bit_for_bit() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|source| Error::Io { path: "temporary".into(), source })?;
        let path = dir.path().join("x.safetensors");
        let description = serde_json::json!({"kind": "test", "n": [1, 2]});
        save(&path, &example()?, Some(&description))?;
        let (tensors, found) = load(&path)?;
        assert_eq!(found, Some(description));
        assert_eq!(tensors.len(), 2);
        let bits = |p: &Parameters| -> Result<Vec<u32>> {
            Ok(p.get("a.weight")?.to_host()?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
        };
        assert_eq!(bits(&tensors)?, bits(&example()?)?);
        assert_eq!(tensors.get("b")?.dims(), [0usize; 0]);
        assert_eq!(std::fs::read_dir(dir.path()).map(Iterator::count).ok(), Some(1), "no temporary file stays behind");
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_one_clear_error() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|source| Error::Io { path: "temporary".into(), source })?;
        let path = dir.path().join("x.safetensors");
        save(&path, &example()?, None)?;
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        for len in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).map_err(|source| Error::Io { path: path.clone(), source })?;
            let message = load(&path).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains("x.safetensors") && message.contains("safetensors file"), "{message}");
        }
        assert!(matches!(load(&dir.path().join("missing")), Err(Error::Io { .. })));
        Ok(())
    }
}
