//! Matroska and WebM files, through `matroska-demuxer`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use matroska_demuxer::{
    ContentCompAlgo, ContentEncodingValue, Frame, MatrixCoefficients, MatroskaFile, Range, TrackEntry, TrackType,
};

use super::bounded::Bounded;
use super::{Codec, Sample, Track, h264, h265, vp9};
use crate::colour::{Colour, Matrix};
use crate::orientation::Orientation;
use crate::stretch::{Stretch, Window};
use crate::{Error, Result, contain};

pub(super) fn open(stretch: &Stretch) -> Result<Track> {
    let path = &stretch.path;
    let file = stretch.open()?;
    contain::run(|| Ok(read(path, file))).map_err(|e| Error::damaged(path, e))?
}

fn read(path: &Path, file: Window<File>) -> Result<Track> {
    let len = file.len();
    // Where a file ends too early, the demuxer's error is an empty one.
    let damaged = |e: &dyn std::fmt::Display| {
        let said = e.to_string();
        Error::damaged(path, if said == "None" { format!("it ends after {len} bytes, within a block") } else { said })
    };
    let reads = Rc::new(RefCell::new(Vec::new()));
    let reader = Recorder { inner: Bounded::new(BufReader::new(file), len), position: 0, reads: Rc::clone(&reads) };
    let mut mkv = MatroskaFile::open(reader).map_err(|e| damaged(&e))?;
    let Some(entry) = mkv.tracks().iter().find(|t| t.track_type() == TrackType::Video).cloned() else {
        return Err(Error::not_video(path, "the file has no video track"));
    };
    let codec = codec(path, &entry)?;
    let sample_prefix = sample_prefix(path, &entry)?;
    let scale = mkv.info().timestamp_scale().get() as f64;
    let units_per_second = 1e9 / scale;
    let duration = mkv.info().duration();
    let mut samples = Vec::new();
    let mut frame = Frame::default();
    loop {
        reads.borrow_mut().clear();
        frame.data.clear();
        if !mkv.next_frame(&mut frame).map_err(|e| damaged(&e))? {
            break;
        }
        if frame.track != entry.track_number().get() || frame.is_invisible {
            continue;
        }
        let size = frame.data.len();
        // Of all that was read for this block, its contents are the piece of that length.
        let Some(offset) = reads.borrow().iter().rev().find(|r| r.1 == size).map(|r| r.0) else {
            return Err(damaged(&"a block is not where it should be"));
        };
        let mut data = sample_prefix.clone();
        data.extend_from_slice(&frame.data);
        samples.push(Sample {
            offset,
            size: size as u64,
            time: frame.timestamp as i64,
            is_key: frame.is_keyframe.unwrap_or_else(|| codec.is_key(&data)),
            is_shown: true,
        });
    }
    check_whole(path, len, &samples, duration, entry.default_duration().map(|d| d.get() as f64 / scale))?;
    Ok(Track {
        container: "matroska",
        codec,
        samples,
        units_per_second,
        fps: entry.default_duration().map(|d| 1e9 / d.get() as f64),
        // Times are rounded to whole units, mostly milliseconds.
        time_tolerance: 2.0,
        orientation: Orientation::default(),
        colour: colour(&entry),
        sample_prefix,
    })
}

/// The demuxer ends a file that is cut off between two blocks without a word; the file's own length tells.
fn check_whole(path: &Path, len: u64, samples: &[Sample], duration: Option<f64>, frame_duration: Option<f64>) -> Result<()> {
    let end = samples.iter().map(|s| s.time).max().unwrap_or(0) as f64;
    if let (Some(duration), Some(frame)) = (duration, frame_duration)
        && end + 4.0 * frame < duration
    {
        let what = format!("the file has {len} bytes and ends at {end} of {duration} units of time");
        return Err(Error::damaged(path, what));
    }
    Ok(())
}

fn codec(path: &Path, entry: &TrackEntry) -> Result<Codec> {
    let private = entry.codec_private().unwrap_or_default();
    match entry.codec_id() {
        "V_MPEG4/ISO/AVC" => h264::Config::new(private).map(Codec::H264).map_err(|e| Error::damaged(path, e)),
        "V_MPEGH/ISO/HEVC" => h265::Config::new(private).map(Codec::H265).map_err(|e| Error::damaged(path, e)),
        "V_VP9" => Ok(Codec::Vp9),
        other => {
            let what = format!("{other} video is not decoded here; install ffmpeg, or convert the file to H.264");
            Err(Error::unsupported(path, what))
        }
    }
}

impl Codec {
    fn is_key(&self, sample: &[u8]) -> bool {
        match self {
            Self::H264(config) => config.is_key(sample),
            Self::H265(config) => config.is_key(sample),
            Self::Vp9 => vp9::is_key(sample),
        }
    }
}

fn sample_prefix(path: &Path, entry: &TrackEntry) -> Result<Vec<u8>> {
    match entry.content_encodings() {
        None | Some([]) => Ok(Vec::new()),
        Some([one]) => match one.encoding() {
            ContentEncodingValue::Compression(c) if c.algo() == ContentCompAlgo::Stripping => {
                Ok(c.settings().unwrap_or_default().to_vec())
            }
            _ => Err(Error::unsupported(path, "its video is compressed or encrypted a second time; convert it with ffmpeg")),
        },
        Some(_) => Err(Error::unsupported(path, "its video is wrapped several times; convert it with ffmpeg")),
    }
}

fn colour(entry: &TrackEntry) -> Colour {
    let Some(colour) = entry.video().and_then(|v| v.colour()) else { return Colour::default() };
    let matrix = match colour.matrix_coefficients() {
        Some(MatrixCoefficients::Bt709) => Some(Matrix::Bt709),
        Some(MatrixCoefficients::Bt470bg | MatrixCoefficients::Smpte170) => Some(Matrix::Bt601),
        Some(MatrixCoefficients::Fcc73682) => Some(Matrix::Fcc),
        Some(MatrixCoefficients::Smpte240) => Some(Matrix::Smpte240),
        Some(MatrixCoefficients::Bt2020Ncl | MatrixCoefficients::Bt2020Cl) => Some(Matrix::Bt2020),
        Some(MatrixCoefficients::Identity) => Some(Matrix::Identity),
        _ => None,
    };
    let full_range = match colour.range() {
        Some(Range::Full) => Some(true),
        Some(Range::Broadcast) => Some(false),
        _ => None,
    };
    Colour { matrix, full_range }
}

/// Notes where each whole piece was read from: the demuxer hands out the contents of blocks, but not their places.
struct Recorder<R> {
    inner: R,
    position: u64,
    reads: Rc<RefCell<Vec<(u64, usize)>>>,
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position += n as u64;
        Ok(n)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buffer)?;
        self.reads.borrow_mut().push((self.position, buffer.len()));
        self.position += buffer.len() as u64;
        Ok(())
    }
}

impl<R: Read + Seek> Seek for Recorder<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.inner.seek(to)?;
        Ok(self.position)
    }
}
