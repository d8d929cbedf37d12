//! A cache of results that take long to compute. A cached file is used only if it is undamaged.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use latte_weights::hexadecimal;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The metadata key of the checksum of a file's values. Files of earlier versions have none.
const CHECKSUM: &str = "sha256";

/// A cache folder for encoded prompts and unfinished latents. If it cannot be written, the work continues without it.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
    /// Whether a failure was reported: one warning is enough.
    has_warned: Arc<AtomicBool>,
}

impl Cache {
    /// The user's cache: `$LATTE_CACHE`, else `latte` in the user's cache folder, else none.
    pub fn of_user() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("LATTE_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("latte")))
            .or_else(|| set("HOME").map(|path| path.join(".cache/latte")));
        Self { folder, ..Self::default() }
    }

    /// A cache in this folder; it is created if it is missing.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::default() }
    }

    /// No cache.
    pub fn none() -> Self {
        Self::default()
    }

    /// The folder, if there is a cache.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The warning for a failed write; `None` after the first one.
    pub(crate) fn failed(&self, error: &dyn Display) -> Option<String> {
        (!self.has_warned.swap(true, Ordering::Relaxed)).then(|| {
            format!(
                "the cache cannot be written: {error}; the work continues without it (LATTE_CACHE names another folder, \
                 --no-cache turns it off)"
            )
        })
    }
}

/// Reads the tensor of shape `shape` that [`keep`] wrote to `path`; `None` if the file is missing or damaged, or has values that
/// are not finite: the caller computes it again then.
pub(crate) fn find(path: &Path, name: &str, shape: &[usize]) -> Option<Tensor> {
    let (tensors, description) = latte_weights::load(path).ok()?;
    let tensor = tensors.get(name).ok()?.to_host().ok()?;
    let values = (tensor.dims() == shape).then(|| tensor.flatten_all().ok()?.to_vec1::<f32>().ok()).flatten()?;
    let expected = description.as_ref().and_then(|description| description.get(CHECKSUM));
    let is_whole = expected.is_none_or(|expected| *expected == checksum(&values)) && values.iter().all(|value| value.is_finite());
    is_whole.then_some(tensor)
}

/// Writes a tensor to `path`, and creates its folder.
///
/// # Errors
///
/// If it cannot be written; no partial file remains.
pub(crate) fn keep(path: &Path, name: &str, tensor: &Tensor) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let tensor = tensor.to_device(&Device::Cpu)?;
    let description = serde_json::json!({ CHECKSUM: checksum(&tensor.flatten_all()?.to_vec1::<f32>()?) });
    let tensors = std::iter::once((name.to_string(), tensor)).collect();
    Ok(latte_weights::save(path, &tensors, Some(&description))?)
}

fn checksum(values: &[f32]) -> String {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.to_le_bytes());
    }
    hexadecimal(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cache_that_fails_warns_once() {
        let cache = Cache::none();
        assert_eq!(cache.folder(), None);
        assert!(cache.failed(&"a/text: no room").is_some_and(|line| line.contains("a/text: no room")));
        assert_eq!(cache.failed(&"a/text: no room"), None);
    }

    fn tensor() -> Tensor {
        Tensor::new(&[[1.5f32, -2.0, 0.25], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap()
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.safetensors");
        keep(&path, "x", &tensor()).unwrap();
        let found = find(&path, "x", &[2, 3]).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), tensor().to_vec2::<f32>().unwrap());
        assert!(find(&path, "y", &[2, 3]).is_none() && find(&path, "x", &[3, 2]).is_none());
        assert!(find(&dir.path().join("none"), "x", &[2, 3]).is_none() && find(dir.path(), "x", &[2, 3]).is_none());
        // Written as earlier versions did, without a checksum.
        let save =
            |tensor: Tensor| latte_weights::save(&path, &std::iter::once(("x".to_string(), tensor)).collect(), None).unwrap();
        save(tensor());
        assert!(find(&path, "x", &[2, 3]).is_some());
        save((tensor() / 0.0).unwrap());
        assert!(find(&path, "x", &[2, 3]).is_none());
    }

    #[test]
    fn what_cannot_be_kept_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = keep(&file.join("text/b.safetensors"), "x", &tensor()).unwrap_err().to_string();
        assert!(error.contains("file/text: "), "{error}");
    }

    proptest! {
        /// A changed byte of the values or a truncated file is detected.
        #[test]
        fn no_damage_to_values_passes(at in 0_usize..24, flip in 1_u8..=255, cut in 1_usize..100) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("b.safetensors");
            keep(&path, "x", &tensor()).unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            let place = bytes.len() - 24 + at;
            bytes[place] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(find(&path, "x", &[2, 3]).is_none());
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            prop_assert!(find(&path, "x", &[2, 3]).is_none());
        }
    }
}
