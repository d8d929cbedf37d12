//! An opened video: a file or a folder of frames.

use std::path::Path;

use crate::builtin::{BuiltIn, Engine};
use crate::byte_range::ByteRange;
use crate::ffmpeg::Ffmpeg;
use crate::frame_folder::FrameFolder;
use crate::media_location::MediaLocation;
use crate::{Clip, Error, Result, VideoInfo};

/// What decodes a video file. Folders of frames are always read by this crate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoder {
    /// The first of the three that knows the file's format: [`Decoder::Libavcodec`], [`Decoder::Ffmpeg`], [`Decoder::BuiltIn`].
    /// Those that are not installed are skipped. Damage that one of them finds is an error, whatever the next would salvage.
    #[default]
    Auto,
    /// Pure Rust, in this process: H.264, H.265 and VP9 in mp4, mov, mkv and webm. Memory-safe.
    BuiltIn,
    /// The same files and the same pixels in less than half the time: the built-in reader of containers, with the system's
    /// libavcodec (`LATTE_LIBAVCODEC`, else the newest known one that is installed) loaded into this process.
    Libavcodec,
    /// The `ffmpeg` and `ffprobe` programs (`LATTE_FFMPEG`, then `PATH`), over a pipe: everything that they read.
    Ffmpeg,
}

impl Decoder {
    /// What a user of [`Decoder::Auto`] should know: that a libavcodec is installed and cannot be used, and why.
    pub fn note(self) -> Option<String> {
        match (self, latte_libav::version()) {
            (Self::Auto, Err(e)) if !matches!(e, latte_libav::Error::NotFound(_)) => Some(e.to_string()),
            _ => None,
        }
    }
}

/// An opened video file or folder of frames.
///
/// Frames are numbered from 0 in order of presentation, as displayed (rotation applied). All decoders number alike.
///
/// A file that is cut off or damaged is an error, at the latest when one of the missing frames is asked for: there are
/// never fewer frames, or other frames, than were asked for. Of an mp4 that is cut off behind its index, the frames before
/// the cut can be read: the built-in decoder counts all frames of the index, ffmpeg those that are there. The built-in
/// decoder refuses a Matroska file that is cut off. Pictures at the start that cannot be decoded, because a clip was cut out of a
/// longer video without decoding, are no frames.
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
    /// If it cannot be read, is no video, is damaged, holds no frame, or if `decoder` does not know its codec.
    pub fn open(path: impl AsRef<Path>, decoder: Decoder) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if meta.is_dir() {
            return Ok(Self { source: Source::Folder(FrameFolder::open(path)?) });
        }
        Self::open_range(ByteRange::whole(path), decoder)
    }

    /// Opens a video of a data set, inside an archive too: nothing is unpacked, only the video's own part of the archive is
    /// read. [`VideoInfo::path`] is then the archive's path with the video's name in it added.
    ///
    /// # Errors
    ///
    /// As [`Video::open`], and if the archive is shorter than it was when the data set was listed.
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

    /// What [`Decoder::Auto`] takes. A file goes to the next decoder if its format is not known; never if it is damaged, for what
    /// one decoder makes up or leaves out would pass for the whole.
    fn first_that_reads(byte_range: ByteRange, engine: Engine) -> Result<Source> {
        let has_ffmpeg = crate::ffmpeg::is_available();
        match BuiltIn::open(byte_range.clone(), engine) {
            // The reading of the container is the same with both engines; decoding in Rust is the last choice. Of a file that is
            // cut off behind its index, ffmpeg counts only what is there.
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

    /// What the video says about itself.
    pub fn info(&self) -> &VideoInfo {
        match &self.source {
            Source::Folder(s) => s.info(),
            Source::BuiltIn(s) => s.info(),
            Source::Ffmpeg(s) => s.info(),
        }
    }

    /// The frames with these `indices`: ascending, repeats allowed. Decoding begins at the last key frame before the
    /// first of them and ends with the last.
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
        // Each frame once; repeats are copied afterwards.
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

    /// All frames.
    ///
    /// # Errors
    ///
    /// As [`Video::frames`].
    pub fn all(&self) -> Result<Clip> {
        self.frames(&(0..self.info().num_frames).collect::<Vec<_>>())
    }

    /// How many coded pictures (or image files) have been decoded so far by this crate itself: what seeking saves.
    /// `None` where ffmpeg decodes.
    pub fn pictures_decoded(&self) -> Option<u64> {
        match &self.source {
            Source::Folder(s) => Some(s.pictures_decoded()),
            Source::BuiltIn(s) => Some(s.pictures_decoded()),
            Source::Ffmpeg(_) => None,
        }
    }
}
