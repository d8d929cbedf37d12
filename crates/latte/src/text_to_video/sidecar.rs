//! The JSON file beside a video, from which the same video can be generated again.

use std::path::{Path, PathBuf};

use latte_ops::Precision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::TextSettings;
use crate::{Error, Result};

/// Everything that a video was generated from: with the same weights, the same settings give the same bits on the same processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// The version of this crate that generated the video.
    pub latte: String,
    /// The model's folder.
    pub model: PathBuf,
    /// The precision of matmuls.
    pub precision: Precision,
    /// The settings of the clip.
    pub settings: TextSettings,
}

impl Sidecar {
    /// Reads a file that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = latte_textfile::read(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|e| {
            latte_weights::refuse(path, format!("is not a settings file that latte wrote beside a video: {e}")).into()
        })
    }

    /// The contents of the file.
    ///
    /// # Errors
    ///
    /// If a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::config("settings", e.to_string()))?;
        Ok(text + "\n")
    }

    /// Whether two such files have the same settings, whichever versions wrote them.
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
