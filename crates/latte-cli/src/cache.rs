//! Where things are kept that can be made again.

use std::path::PathBuf;

/// `$LATTE_CACHE`, else `latte` in the user's cache folder; `None` where the system names none.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("LATTE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("latte")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/latte")))
}
