//! A list of single images for joint training: the official `frame_data_txt`.

use std::path::{Path, PathBuf};

use super::Layout;
use crate::{Error, Result};

/// A list of images, one per line: paths relative to one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageList {
    folder: PathBuf,
    /// The text of the file; kept whole because a data set has millions of lines.
    text: String,
    /// Start and end of each image's line in `text`, in bytes.
    lines: Vec<[usize; 2]>,
    /// The class of each image; empty without classes.
    labels: Vec<u32>,
}

impl ImageList {
    /// Reads the list at `list`, of images below `folder`. Empty lines are skipped.
    ///
    /// With `classes`, the class of an image is the second `_`-separated part of its file name, as in UCF101:
    /// `v_<class>_g01_c01_0001.jpg`.
    ///
    /// # Errors
    ///
    /// If the layout has no image lists, the file cannot be read or is empty, or a file name has none of `classes`.
    pub fn read(layout: Layout, list: &Path, folder: &Path, classes: &[String]) -> Result<Self> {
        if !Self::is_for(layout) {
            return Err(Error::folder(list, format!("the layout `{layout}` takes images from its videos, not from a list")));
        }
        let text = latte_textfile::read(list).map_err(|e| Error::io(list, e))?;
        let (mut lines, mut labels) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (number, line) in text.split('\n').enumerate() {
            let name = line.trim();
            if !name.is_empty() {
                let from = start + line.find(name).unwrap_or(0);
                lines.push([from, from + name.len()]);
                if !classes.is_empty() {
                    let class = name.rsplit('/').next().and_then(|file| file.split('_').nth(1)).unwrap_or_default();
                    let Ok(label) = classes.binary_search_by(|known| known.as_str().cmp(class)) else {
                        let what = format!(
                            "line {}: `{name}` tells of no class of the data: expected v_<class>_g…_c…_<frame>.jpg, with a class \
                             of the {} from {} to {}",
                            number + 1,
                            classes.len(),
                            classes[0],
                            classes[classes.len() - 1]
                        );
                        return Err(Error::folder(list, what));
                    };
                    labels.push(label as u32);
                }
            }
            start += line.len() + 1;
        }
        if lines.is_empty() {
            return Err(Error::folder(list, "no image in this list; expected one path a line"));
        }
        Ok(Self { folder: folder.to_path_buf(), text, lines, labels })
    }

    /// Whether data sets of this layout may have an image list.
    pub fn is_for(layout: Layout) -> bool {
        matches!(layout, Layout::FaceForensics | Layout::Ucf101)
    }

    /// Number of images, at least one.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Always false: reading a list without images is an error.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The file of image number `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`ImageList::len`].
    pub fn path(&self, index: usize) -> PathBuf {
        let [from, to] = self.lines[index];
        self.folder.join(&self.text[from..to])
    }

    /// The class of image number `index`; `None` without classes.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied()
    }
}
