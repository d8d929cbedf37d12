//! A folder of image files as a video.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::find::has_extension;
use crate::{Clip, Error, Result, VideoInfo, contain};

pub(crate) const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Larger images are not read: a header of a few bytes must not fill the memory.
const MAX_PIXELS: u64 = 1 << 27;

/// Folders of frames say nothing of time: the rate of the official samples.
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
        let (_, [width, height]) = decode_file(first)?;
        let info = VideoInfo {
            path: dir.to_path_buf(),
            container: "frames".into(),
            codec: if has_extension(first, &["png"]) { "png".into() } else { "jpeg".into() },
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
            let (pixels, [width, height]) = decode_file(path)?;
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

/// The frames in the folder `dir`, in order.
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
    files.sort_by_cached_key(|path| order(&file_name(path)));
    Ok(files)
}

/// Reads an image file, png or jpeg, as a clip of one frame.
///
/// # Errors
///
/// If it cannot be read, or is no sound image.
pub fn read_image(path: impl AsRef<Path>) -> Result<Clip> {
    let (pixels, [width, height]) = decode_file(path.as_ref())?;
    Clip::new(pixels, [1, height, width, 3], FPS)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Frames are in the order of the number that ends their name (`frame_2.png` before `frame_10.png`), then of the name.
/// Names without a number come last.
fn order(name: &str) -> (bool, u128, String) {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let last = stem.rsplit_once('_').map_or(stem, |(_, last)| last);
    let number: Option<u128> = last.parse().ok().or_else(|| {
        let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        stem[stem.len() - digits..].parse().ok()
    });
    // Without a number: after every number.
    (number.is_none(), number.unwrap_or(0), name.to_string())
}

/// RGB pixels `[h, w, 3]` and `[width, height]` of an image file.
fn decode_file(path: &Path) -> Result<(Vec<u8>, [usize; 2])> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let decode = if has_extension(path, &["png"]) { decode_png } else { decode_jpeg };
    let (pixels, size) = contain::run(|| decode(&bytes)).map_err(|e| Error::damaged(path, e))?;
    if pixels.is_empty() || pixels.len() != size[0] * size[1] * 3 {
        return Err(Error::damaged(path, format!("{} bytes for an image of {} × {}", pixels.len(), size[0], size[1])));
    }
    Ok((pixels, size))
}

fn decode_png(bytes: &[u8]) -> std::result::Result<(Vec<u8>, [usize; 2]), String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let [width, height] = [reader.info().width, reader.info().height];
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("an image of {width} × {height} pixels is not possible"));
    }
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("the image is too large")?];
    let info = reader.next_frame(&mut pixels).map_err(|e| e.to_string())?;
    pixels.truncate(info.buffer_size());
    let size = [info.width as usize, info.height as usize];
    // Transparency is dropped, as ffmpeg and PIL's convert("RGB") do.
    let pixels = match info.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => pixels.iter().flat_map(|&v| [v; 3]).collect(),
        png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err("an indexed image was not expanded".into()),
    };
    Ok((pixels, size))
}

fn decode_jpeg(bytes: &[u8]) -> std::result::Result<(Vec<u8>, [usize; 2]), String> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("the image has no size")?;
    Ok((pixels, [width, height]))
}

#[cfg(test)]
mod tests {
    use super::{decode_png, order};

    #[test]
    fn a_header_alone_does_not_fill_the_memory() {
        let mut file = Vec::new();
        png::Encoder::new(&mut file, 300_000, 300_000).write_header().unwrap();
        let said = decode_png(&file).unwrap_err();
        assert!(said.contains("300000 × 300000"), "{said}");
    }

    #[test]
    fn frames_are_in_the_order_of_their_numbers() {
        let mut names = ["clip_10.png", "clip_2.png", "clip_1.png", "no number.png", "clip_002b.png", "frame7.jpg", "b_2.png"];
        names.sort_by_key(|n| order(n));
        assert_eq!(names, ["clip_1.png", "b_2.png", "clip_2.png", "frame7.jpg", "clip_10.png", "clip_002b.png", "no number.png"]);
    }
}
