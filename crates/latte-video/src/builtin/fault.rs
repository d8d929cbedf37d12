//! Why a file or a picture cannot be decoded: it is damaged, or the decoder does not support it.

use std::fmt;
use std::path::Path;

use crate::Error;

/// The cause of a failure in words, without the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The file is damaged: no other decoder may conceal the missing parts.
    Damaged(String),
    /// The file may be sound, but has a feature that this decoder does not support: another may.
    Unsupported(String),
}

impl Fault {
    pub(super) fn of(self, path: &Path) -> Error {
        match self {
            Self::Damaged(what) => Error::damaged(path, what),
            Self::Unsupported(what) => Error::unsupported(path, what),
        }
    }

    /// Adds the location in front.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Damaged(what) => Self::Damaged(format!("{place}: {what}")),
            Self::Unsupported(what) => Self::Unsupported(format!("{place}: {what}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Damaged(what) | Self::Unsupported(what)) = self;
        f.write_str(what)
    }
}

/// An error without a kind counts as damage.
impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<&str> for Fault {
    fn from(what: &str) -> Self {
        Self::Damaged(what.into())
    }
}
