//! The location of a data set with the options for listing it.

use std::path::{Path, PathBuf};

use super::{Dataset, Layout, ManifestOptions, Skipped, shards};
use crate::Result;

/// A data set on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its layout.
    pub layout: Layout,
    /// The folder; the file for [`Layout::Manifest`]; a folder, a file or a pattern for [`Layout::Shards`].
    pub path: PathBuf,
    /// Options for reading a manifest; other layouts ignore them.
    pub manifest: ManifestOptions,
}

impl Location {
    /// A data set at `path` with default options.
    pub fn new(layout: Layout, path: impl Into<PathBuf>) -> Self {
        Self { layout, path: path.into(), manifest: ManifestOptions::default() }
    }

    /// Lists all videos with their classes and captions, and what was skipped; opens no video.
    ///
    /// # Errors
    ///
    /// Those of [`Layout::list`], [`Dataset::from_manifest`] or [`Dataset::from_shards`].
    pub fn list(&self) -> Result<(Dataset, Skipped)> {
        match self.layout {
            Layout::Manifest => Dataset::from_manifest(&self.path, &self.manifest),
            Layout::Shards => Dataset::from_shards(&self.path),
            layout => layout.list_folders(&self.path),
        }
    }

    /// The folder that paths in an index are relative to, so that the data may move.
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
    /// In [`Layout::Folder`], videos directly in the root have no class. Manifests and shards are read with default options;
    /// [`Location::list`] takes options and also returns what was skipped.
    ///
    /// # Errors
    ///
    /// If `root` is not a folder or cannot be read, holds no video, or has no sub-folder although the layout has classes.
    pub fn list(self, root: &Path) -> Result<Dataset> {
        Ok(Location::new(self, root).list()?.0)
    }
}
