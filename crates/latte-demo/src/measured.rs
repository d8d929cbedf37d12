//! Compares the contents of clip files with the classes in their names.

use std::path::{Path, PathBuf};

use latte_video::{Decoder, Video, find_videos};

use crate::motion::{Motion, measure};
use crate::scene::Class;
use crate::{Error, Result};

/// A generated clip with measurements of its file.
#[derive(Debug)]
pub struct Measured {
    /// The class in its name.
    pub class: Class,
    /// The file.
    pub path: PathBuf,
    /// The motion that was measured from its pixels.
    pub motion: Motion,
}

impl Measured {
    /// Reads the written file and measures its pixels.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn from_file(class: Class, path: &Path) -> Result<Self> {
        let clip = Video::open(path, Decoder::Auto).and_then(|video| video.all())?;
        Ok(Self { class, path: path.to_path_buf(), motion: measure(clip.pixels(), clip.shape()) })
    }

    /// Whether it moves in the direction of its class.
    pub fn direction_is_right(&self) -> bool {
        self.motion.direction_matches(self.class)
    }

    /// Whether it shows the thing of its class.
    pub fn thing_is_right(&self) -> bool {
        self.motion.thing_matches(self.class)
    }
}

/// Measures all videos below `folder`. The class of a video is the start of its name, as `latte sample` names files, or the name of
/// its folder, as in the demo's data set.
///
/// # Errors
///
/// If there is no video, a name has no class, or a video cannot be read.
pub fn measure_folder(folder: &Path) -> Result<Vec<Measured>> {
    let measured = find_videos(folder)?.into_iter().map(|path| {
        let class = class_of(&path).ok_or_else(|| Error::NoClass { path: path.clone() })?;
        Measured::from_file(class, &path)
    });
    measured.collect()
}

fn class_of(path: &Path) -> Option<Class> {
    let name = path.file_stem()?.to_str()?;
    let begins = |class: &Class| name.strip_prefix(&class.to_string()).is_some_and(|rest| rest.starts_with('_'));
    let parent = || Class::from_name(path.parent()?.file_name()?.to_str()?);
    Class::all().into_iter().find(begins).or_else(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_from_the_name_or_from_the_folder() {
        let class = |path: &str| class_of(Path::new(path)).map(|class| class.to_string());
        assert_eq!(class("a/up_blue_disc_seed3.mp4").as_deref(), Some("up_blue_disc"));
        assert_eq!(class("left_red_square/007.mp4").as_deref(), Some("left_red_square"));
        // The name takes precedence over the folder.
        assert_eq!(class("left_red_square/up_blue_disc_seed3.mp4").as_deref(), Some("up_blue_disc"));
        assert_eq!((class("up_blue_discs.mp4"), class("a.mp4"), class("left_red_square/sub/007.mp4")), (None, None, None));
    }
}
