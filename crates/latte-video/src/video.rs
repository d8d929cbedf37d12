//! An opened video: a file or a folder of frames.

use std::path::Path;

use crate::builtin::{BuiltIn, Engine};
use crate::byte_range::ByteRange;
use crate::ffmpeg::Ffmpeg;
use crate::frame_folder::FrameFolder;
use crate::media_location::MediaLocation;
use crate::{Clip, Error, Result, VideoInfo};

/// The decoder of a video file. This crate always reads folders of frames itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoder {
    /// The first of [`Decoder::Libavcodec`], [`Decoder::Ffmpeg`], [`Decoder::BuiltIn`] that supports the format of the file.
    /// Decoders that are not installed are skipped. Damage that one of them finds is an error, even if the next could read a part.
    #[default]
    Auto,
    /// Pure Rust in this process: H.264, H.265 and VP9 in mp4, mov, mkv and webm. Memory-safe.
    BuiltIn,
    /// The same files and the same pixels in less than half the time: the built-in demuxer with the system's libavcodec
    /// (`LATTE_LIBAVCODEC`, else the newest known version that is installed) loaded into this process.
    Libavcodec,
    /// The `ffmpeg` and `ffprobe` programs (`LATTE_FFMPEG`, then `PATH`), over a pipe: every format that they read.
    Ffmpeg,
}

impl Decoder {
    /// A note for users of [`Decoder::Auto`] if an installed libavcodec cannot be used, with the reason.
    pub fn note(self) -> Option<String> {
        match (self, latte_libav::version()) {
            (Self::Auto, Err(e)) if !matches!(e, latte_libav::Error::NotFound(_)) => Some(e.to_string()),
            _ => None,
        }
    }
}

/// An opened video file or folder of frames.
///
/// Frames are numbered from 0 in presentation order, and are rotated for display. All decoders use the same numbers.
///
/// Damaged and cut-off files are an error, at the latest when a missing frame is requested: a result never has fewer frames, or
/// other frames, than requested. Frames before the cut can be read from an mp4 that is cut off behind its index; the built-in
/// decoder counts all frames of the index, ffmpeg only those that exist. The built-in decoder refuses a cut-off Matroska file.
/// Pictures at the start that cannot be decoded, because a clip was cut out of a longer video without re-encoding, do not count as
/// frames.
#[derive(Debug)]
pub struct Video {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Folder(FrameFolder),
    BuiltIn(Box<BuiltIn>),
    Ffmpeg(Ffmpeg),
}

impl Video {
    /// Opens a video file or a folder of frames.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not a video, is damaged, has no frame, or has a codec that `decoder` does not support.
    pub fn open(path: impl AsRef<Path>, decoder: Decoder) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if meta.is_dir() {
            return Ok(Self { source: Source::Folder(FrameFolder::open(path)?) });
        }
        Self::open_range(ByteRange::whole(path), decoder)
    }

    /// Opens a video of a data set, also inside an archive: nothing is unpacked, only the video's part of the archive is read.
    /// [`VideoInfo::path`] is then the path of the archive followed by the name inside it.
    ///
    /// # Errors
    ///
    /// Those of [`Video::open`]; and if the archive is shorter than when the data set was listed.
    pub fn open_media(place: &MediaLocation, decoder: Decoder) -> Result<Self> {
        match place {
            MediaLocation::Path(path) => Self::open(path, decoder),
            MediaLocation::Archived { .. } => Self::open_range(ByteRange::of(place), decoder),
        }
    }

    fn open_range(byte_range: ByteRange, decoder: Decoder) -> Result<Self> {
        let built_in = |byte_range, engine| BuiltIn::open(byte_range, engine).map(|s| Source::BuiltIn(Box::new(s)));
        let libav = latte_libav::version();
        let source = match decoder {
            Decoder::BuiltIn => built_in(byte_range, Engine::Rust)?,
            Decoder::Libavcodec => {
                libav.map_err(|e| Error::unsupported(&byte_range.path, e.to_string()))?;
                built_in(byte_range, Engine::Libav)?
            }
            Decoder::Ffmpeg => Source::Ffmpeg(Ffmpeg::open(byte_range)?),
            Decoder::Auto => Self::first_that_reads(byte_range, if libav.is_ok() { Engine::Libav } else { Engine::Rust })?,
        };
        Ok(Self { source })
    }

    /// Implements [`Decoder::Auto`]. The next decoder is tried if the format is unknown, never if the file is damaged: a partial
    /// result of another decoder would pass as complete.
    fn first_that_reads(byte_range: ByteRange, engine: Engine) -> Result<Source> {
        let has_ffmpeg = crate::ffmpeg::is_available();
        match BuiltIn::open(byte_range.clone(), engine) {
            // Both engines read containers the same way; decoding in Rust is the last choice. If a file is cut off behind its
            // index, ffmpeg counts only the frames that exist.
            Ok(video) if engine == Engine::Rust && has_ffmpeg && !video.is_cut_off()? => {
                Ok(Source::Ffmpeg(Ffmpeg::open(byte_range)?))
            }
            Ok(video) => Ok(Source::BuiltIn(Box::new(video))),
            Err(Error::Unsupported { .. } | Error::NotVideo { .. }) if has_ffmpeg => {
                Ok(Source::Ffmpeg(Ffmpeg::open(byte_range)?))
            }
            Err(e) => Err(e),
        }
    }

    /// The metadata of the video.
    pub fn info(&self) -> &VideoInfo {
        match &self.source {
            Source::Folder(s) => s.info(),
            Source::BuiltIn(s) => s.info(),
            Source::Ffmpeg(s) => s.info(),
        }
    }

    /// Decodes the frames with these `indices`, which must be ascending and may repeat. Decoding runs from the last key frame
    /// before the first index to the last index.
    ///
    /// # Errors
    ///
    /// If `indices` is empty or not ascending, an index is out of range, or the video cannot be decoded.
    pub fn frames(&self, indices: &[usize]) -> Result<Clip> {
        let info = self.info();
        if let Some(&index) = indices.iter().find(|&&i| i >= info.num_frames) {
            return Err(Error::FrameIndex { path: info.path.clone(), index, total: info.num_frames });
        }
        if indices.is_empty() || !indices.is_sorted() {
            return Err(Error::Shape(format!("frame indices must be given, in ascending order; got {indices:?}")));
        }
        // Each frame is decoded once; repeats are copied afterwards.
        let mut unique = indices.to_vec();
        unique.dedup();
        let pixels = match &self.source {
            Source::Folder(s) => s.frames(&unique),
            Source::BuiltIn(s) => s.frames(&unique),
            Source::Ffmpeg(s) => s.frames(&unique),
        }?;
        let frame_len = info.width * info.height * 3;
        if pixels.len() != unique.len() * frame_len {
            let what = format!("{} bytes were decoded for {} frames of {frame_len}", pixels.len(), unique.len());
            return Err(Error::damaged(&info.path, what));
        }
        let pixels = if unique.len() == indices.len() {
            pixels
        } else {
            let mut all = Vec::with_capacity(indices.len() * frame_len);
            let mut at = 0;
            for index in indices {
                at += usize::from(unique[at] != *index);
                all.extend_from_slice(&pixels[at * frame_len..(at + 1) * frame_len]);
            }
            all
        };
        Clip::new(pixels, [indices.len(), info.height, info.width, 3], info.fps)
    }

    /// Decodes all frames.
    ///
    /// # Errors
    ///
    /// Those of [`Video::frames`].
    pub fn all(&self) -> Result<Clip> {
        self.frames(&(0..self.info().num_frames).collect::<Vec<_>>())
    }

    /// Number of coded pictures (or image files) that this crate has decoded so far, which shows what seeking saves. `None` if
    /// ffmpeg decodes.
    pub fn pictures_decoded(&self) -> Option<u64> {
        match &self.source {
            Source::Folder(s) => Some(s.pictures_decoded()),
            Source::BuiltIn(s) => Some(s.pictures_decoded()),
            Source::Ffmpeg(_) => None,
        }
    }
}
