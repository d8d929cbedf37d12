//! Memory-mapped files: a file larger than the memory opens at once, and only the parts that are read are loaded.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// A file's bytes.
#[derive(Debug)]
pub(crate) struct FileMap {
    path: PathBuf,
    /// Empty files cannot be mapped.
    map: Option<Mmap>,
}

impl FileMap {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        let map = if metadata.len() == 0 { None } else { Some(map(&file).map_err(io)?) };
        Ok(Self { path: path.to_path_buf(), map })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[expect(unsafe_code, reason = "mapping is the only way to open a file of weights without a copy in memory")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private to this process and only read, as plain bytes within the length found here. Every bit pattern is
    // valid, and values are checked where they are used. The remaining risk is that another program changes or truncates the file
    // meanwhile: then values are garbage, or the system ends this program. This program replaces weight files by writing under
    // another name and renaming (`write_atomically`), which leaves the old file, and this map, unchanged.
    unsafe { Mmap::map(file) }
}
