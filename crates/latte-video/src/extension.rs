//! What a file is, by the end of its name.

use std::path::Path;

/// Whether the name ends in one of `extensions`, which are in lower case; that of the name may be in either.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    extensions.contains(&extension.as_str())
}
