//! File formats by extension.

use std::path::Path;

/// Whether the extension of `path` is one of `extensions`, which must be in lower case; the case of `path` is ignored.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    extensions.contains(&extension.as_str())
}
