//! A folder of image files as a video.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::extension::has_extension;
use crate::image_file::{self, EXTENSIONS, Image};
use crate::{Error, Result, VideoInfo, natural};

/// Frame rate of folders of frames, which store none: that of the official samples.
const FPS: f64 = 8.0;

/// An opened folder of frames.
#[derive(Debug)]
pub(crate) struct FrameFolder {
    files: Vec<PathBuf>,
    info: VideoInfo,
    decoded: AtomicU64,
}

impl FrameFolder {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let files = list(dir)?;
        let Some(first) = files.first() else {
            return Err(Error::folder(dir, format!("no frames: a frame folder holds {} files", EXTENSIONS.join(", "))));
        };
        let Image { size: [width, height], codec, .. } = image_file::read(first)?;
        let info = VideoInfo {
            path: dir.to_path_buf(),
            container: "frames".into(),
            codec: codec.into(),
            width,
            height,
            rotation: 0,
            fps: FPS,
            num_frames: files.len(),
            duration: files.len() as f64 / FPS,
            variable_frame_rate: false,
            decoder: "built in",
        };
        Ok(Self { files, info, decoded: AtomicU64::new(0) })
    }

    pub(crate) fn info(&self) -> &VideoInfo {
        &self.info
    }

    pub(crate) fn pictures_decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    pub(crate) fn frames(&self, indices: &[usize]) -> Result<Vec<u8>> {
        let mut all = Vec::with_capacity(indices.len() * self.info.width * self.info.height * 3);
        for &index in indices {
            let path = &self.files[index];
            let Image { pixels, size: [width, height], .. } = image_file::read(path)?;
            self.decoded.fetch_add(1, Ordering::Relaxed);
            if [width, height] != [self.info.width, self.info.height] {
                let what = format!(
                    "all frames of a video must have one size: {} has {} × {}, this one {width} × {height}",
                    file_name(&self.files[0]),
                    self.info.width,
                    self.info.height,
                );
                return Err(Error::folder(path, what));
            }
            all.extend_from_slice(&pixels);
        }
        Ok(all)
    }
}

/// The frames in the folder `dir`, in natural order.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let entry = entry.map_err(|e| Error::io(dir, e))?;
        let path = entry.path();
        if has_extension(&path, &EXTENSIONS) && !file_name(&path).starts_with('.') {
            let kind = entry.file_type().map_err(|e| Error::io(&path, e))?;
            if kind.is_file() || kind.is_symlink() && path.is_file() {
                files.push(path);
            }
        }
    }
    natural::sort(&mut files);
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
