//! The file beside a video from which the same video can be made again.

use std::path::{Path, PathBuf};

use latte_ops::Precision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::TextSettings;
use crate::{Error, Result};

/// Everything that a video was made of: with the same weights it can be made again, bit for bit on the same processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// The version of this crate that made it.
    pub latte: String,
    /// The model's folder.
    pub model: PathBuf,
    /// In which precision matrices were multiplied.
    pub precision: Precision,
    /// What the clip is.
    pub settings: TextSettings,
}

impl Sidecar {
    /// Reads a file that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = latte_textfile::read(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|e| {
            latte_weights::refuse(path, format!("is no file of settings that latte wrote beside a video: {e}")).into()
        })
    }

    /// The text of the file.
    ///
    /// # Errors
    ///
    /// If a value has no JSON.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::config("settings", e.to_string()))?;
        Ok(text + "\n")
    }

    /// Whether two such files have the same settings, whichever version wrote them.
    pub fn are_same(a: &[u8], b: &[u8]) -> bool {
        let settings = |bytes: &[u8]| -> Option<Value> {
            let mut value: Value = serde_json::from_slice(bytes).ok()?;
            value.as_object_mut()?.remove("latte");
            Some(value)
        };
        settings(a).is_some_and(|a| settings(b) == Some(a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_no_setting() {
        let same = |a: &str, b: &str| Sidecar::are_same(a.as_bytes(), b.as_bytes());
        assert!(same(r#"{"latte": "1", "a": [1]}"#, r#"{"a": [1], "latte": "2"}"#));
        assert!(!same(r#"{"latte": "1", "a": [1]}"#, r#"{"latte": "1", "a": [2]}"#));
        assert!(!same("text", "text"));
    }
}
