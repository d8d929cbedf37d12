//! Converts the videos of a data set into folders of frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Item, MediaLocation};
use crate::encode::{write_atomically, write_jpeg, write_png};
use crate::{Clip, Decoder, Error, Result, Transform, Video, find_videos, transform};

/// The file format of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameFormat {
    /// The jpeg quality, 1 to 100; `None` for png (lossless).
    pub quality: Option<u8>,
    /// Height and width to resize frames to; `None` keeps the size.
    pub size: Option<[usize; 2]>,
    /// How frames are resized to `size`.
    pub transform: Transform,
}

/// Maximum size in bytes of the decoded pixels in memory at a time.
const CHUNK: usize = 256 << 20;
/// A file in the output folder that records the format of its frames.
const NOTE: &str = ".latte-frames.json";

/// Videos to convert into folders of frames, and the output folders.
#[derive(Debug)]
pub struct FrameExport {
    /// Each video with the folder for its frames.
    pub tasks: Vec<(Item, PathBuf)>,
    format: FrameFormat,
}

impl FrameExport {
    /// Lists the video files below `root`. The frames of each go to `00000.png`, `00001.png`, … (or `.jpg`) in a folder below `out`
    /// that has the path of the video without its extension. Records the frame format in `out`.
    ///
    /// # Errors
    ///
    /// If there is no video, two videos would use the same folder, or `out` holds frames of another format.
    pub fn plan(root: &Path, out: &Path, format: FrameFormat) -> Result<Self> {
        if format.quality.is_some_and(|quality| !(1..=100).contains(&quality)) {
            return Err(Error::Shape(format!("a jpeg has quality 1 to 100, not {}", format.quality.unwrap_or_default())));
        }
        if format.size.is_some_and(|size| size.contains(&0)) {
            return Err(Error::Shape("frames have at least one row and one column, not 0".into()));
        }
        let mut folders: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        let mut tasks = Vec::new();
        for path in find_videos(root)?.into_iter().filter(|path| path.is_file()) {
            let name = super::name_below(root, &path);
            let folder = out.join(Path::new(&name).with_extension(""));
            if let Some(other) = folders.insert(folder.clone(), path.clone()) {
                let what = format!("both this and {} would become {}; rename one", other.display(), folder.display());
                return Err(Error::folder(&path, what));
            }
            tasks.push((Item { name, place: MediaLocation::Path(path), label: None, caption: None, info: None }, folder));
        }
        if tasks.is_empty() {
            return Err(Error::folder(root, "no video file in this folder"));
        }
        for (item, folder) in &tasks {
            if let Some(other) = folder.ancestors().skip(1).find_map(|above| folders.get(above)) {
                let what = format!("its frames would lie among those of {}; rename one", other.display());
                return Err(Error::folder(item.place.path(), what));
            }
        }
        fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        let note = out.join(NOTE);
        let wanted = serde_json::to_string(&format).map_err(|e| Error::folder(out, e.to_string()))?;
        match latte_textfile::read(&note) {
            Ok(there) if there.trim() != wanted => {
                let what = format!("holds frames of another format ({}, now {wanted}); write into another folder", there.trim());
                return Err(Error::folder(out, what));
            }
            Ok(_) => {}
            Err(_) => write_atomically(&note, format!("{wanted}\n").as_bytes())?,
        }
        Ok(Self { tasks, format })
    }

    /// Writes the frames of task number `task` and returns their number; `None` if the folder exists already. The folder appears
    /// when it is complete.
    ///
    /// # Errors
    ///
    /// If the video cannot be read or the frames cannot be written.
    ///
    /// # Panics
    ///
    /// If `task` is not below the length of [`FrameExport::tasks`].
    pub fn write(&self, task: usize, decoder: Decoder) -> Result<Option<usize>> {
        let (item, folder) = &self.tasks[task];
        if folder.exists() {
            return Ok(None);
        }
        let video = Video::open_media(&item.place, decoder)?;
        // All processes use the same temporary name: the next run removes what a killed run left.
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let partial = folder.with_file_name(format!(".{name}.partial"));
        let written = self.write_frames(&video, &partial).and_then(|()| {
            fs::rename(&partial, folder).map_err(|e| Error::io(folder, e))?;
            Ok(Some(video.info().num_frames))
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write_frames(&self, video: &Video, folder: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let info = video.info();
        let frame_len = (info.width * info.height * 3).max(1);
        let at_a_time = (CHUNK / frame_len).max(1);
        for start in (0..info.num_frames).step_by(at_a_time) {
            let indices: Vec<usize> = (start..info.num_frames.min(start + at_a_time)).collect();
            let clip = self.resized(video.frames(&indices)?)?;
            for (at, index) in indices.iter().enumerate() {
                let (pixels, width, height) = (clip.frame(at), clip.width(), clip.height());
                match self.format.quality {
                    None => write_png(folder.join(format!("{index:05}.png")), pixels, width, height)?,
                    Some(q) => write_jpeg(folder.join(format!("{index:05}.jpg")), pixels, width, height, q)?,
                }
            }
        }
        Ok(())
    }

    fn resized(&self, clip: Clip) -> Result<Clip> {
        let Some([height, width]) = self.format.size else { return Ok(clip) };
        let pixels = self.format.transform.apply(&clip, [height, width])?; // [f, 3, h, w]
        transform::to_clip(&pixels, [clip.num_frames(), height, width], clip.fps())
    }
}
