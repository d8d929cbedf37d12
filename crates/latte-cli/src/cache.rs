//! Where things are kept that can be made again.

use std::cell::Cell;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// `$LATTE_CACHE`, else `latte` in the user's cache folder; `None` where the system names none.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("LATTE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("latte")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/latte")))
}

/// A cache that the command can do without: it warns once if the folder cannot be written.
#[derive(Debug)]
pub(crate) struct OptionalCache {
    folder: Option<PathBuf>,
    is_told: Cell<bool>,
}

impl OptionalCache {
    /// The folder of this program's cache; none if it is switched `off`.
    pub(crate) fn new(off: bool) -> Self {
        Self { folder: if off { None } else { folder() }, is_told: Cell::new(false) }
    }

    /// Where things are kept, if they are.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Something could not be kept. Gives the line to be shown: the first time only.
    pub(crate) fn failed(&self, error: &dyn Display) -> Option<String> {
        (!self.is_told.replace(true)).then(|| {
            format!(
                "warning: nothing can be kept in the cache: {error}; the work goes on without it (LATTE_CACHE names another folder, \
                 --no-cache is to keep nothing)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_fails_is_told_once() {
        let cache = OptionalCache::new(true);
        assert_eq!(cache.folder(), None);
        assert!(cache.failed(&"a/text: no room").is_some_and(|line| line.contains("a/text: no room")));
        assert_eq!(cache.failed(&"a/text: no room"), None);
    }
}
