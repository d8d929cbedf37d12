//! Where a data set is, and all that must be known to list it.

use std::path::{Path, PathBuf};

use super::{Dataset, Layout, ManifestOptions, Skipped, shards};
use crate::Result;

/// A data set on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// How it lies there.
    pub layout: Layout,
    /// The folder; of [`Layout::Manifest`], the manifest; of [`Layout::Shards`], a folder, a file or a pattern.
    pub path: PathBuf,
    /// How a manifest is read; other layouts take no notice of it.
    pub manifest: ManifestOptions,
}

impl Location {
    /// A data set at `path`; the columns of a manifest are found by their names.
    pub fn new(layout: Layout, path: impl Into<PathBuf>) -> Self {
        Self { layout, path: path.into(), manifest: ManifestOptions::default() }
    }

    /// All videos, with their classes and captions, and what was skipped; opens no video.
    ///
    /// # Errors
    ///
    /// As [`Layout::list`], [`Dataset::from_manifest`] or [`Dataset::from_shards`].
    pub fn list(&self) -> Result<(Dataset, Skipped)> {
        match self.layout {
            Layout::Manifest => Dataset::from_manifest(&self.path, &self.manifest),
            Layout::Shards => Dataset::from_shards(&self.path),
            layout => layout.list_folders(&self.path),
        }
    }

    /// The folder that what an index says is relative to, so that the data may move.
    pub(super) fn base(&self) -> &Path {
        let base = match self.layout {
            Layout::Manifest => self.manifest.root.as_deref().or(self.path.parent()).unwrap_or(&self.path),
            Layout::Shards => shards::folder(&self.path),
            _ => &self.path,
        };
        if base.as_os_str().is_empty() { Path::new(".") } else { base }
    }
}

impl Layout {
    /// All videos below `root`, with their classes; opens none of them.
    ///
    /// In [`Layout::Folder`] videos that lie directly in the root have no class. Manifests and shards are read by the defaults;
    /// [`Location::list`] has options and says what was skipped.
    ///
    /// # Errors
    ///
    /// If `root` is no folder or cannot be read, there is no video, or a layout with classes has no sub-folder.
    pub fn list(self, root: &Path) -> Result<Dataset> {
        Ok(Location::new(self, root).list()?.0)
    }
}
