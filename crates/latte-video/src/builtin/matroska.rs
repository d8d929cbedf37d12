//! Reads Matroska and WebM files with `matroska-demuxer`.

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
use crate::byte_range::{ByteRange, Window};
use crate::colour::{Colour, Matrix};
use crate::orientation::Orientation;
use crate::{Error, Result, panic_guard};

pub(super) fn open(byte_range: &ByteRange) -> Result<Track> {
    let path = &byte_range.path;
    let mut file = byte_range.open()?;
    let len = file.len();
    if let Some(end) = segment_end(&mut file).filter(|&end| end > len) {
        return Err(Error::damaged(path, format!("the file has {len} bytes, its header says {end}")));
    }
    let file = byte_range.open()?;
    panic_guard::run(|| Ok::<_, String>(read(path, file))).map_err(|e| Error::damaged(path, e))?
}

fn read(path: &Path, file: Window<File>) -> Result<Track> {
    let len = file.len();
    // If a file is cut off, the demuxer's error is empty.
    let damaged = |e: &dyn std::fmt::Display| {
        let said = e.to_string();
        Error::damaged(path, if said == "None" { format!("it ends after {len} bytes, within a block") } else { said })
    };
    let reads = Rc::new(RefCell::new(Vec::new()));
    let reader = Recorder { inner: Bounded::new(BufReader::new(file), len), position: 0, reads: Rc::clone(&reads) };
    let mut mkv = MatroskaFile::open(reader).map_err(|e| damaged(&e))?;
    let Some(entry) = the_video(mkv.tracks()).cloned() else { return Err(Error::not_video(path, no_video(mkv.tracks()))) };
    // An unsupported codec is reported later, so that damage is reported first.
    let codec = codec(path, &entry).and_then(|codec| Ok((codec, sample_prefix(path, &entry)?)));
    let prefix = codec.as_ref().map(|(_, prefix)| prefix.clone()).unwrap_or_default();
    let scale = mkv.info().timestamp_scale().get() as f64;
    let units_per_second = 1e9 / scale;
    let duration = mkv.info().duration();
    let (mut samples, mut end, mut clock) = (Vec::new(), 0, Clock::default());
    let mut frame = Frame::default();
    loop {
        reads.borrow_mut().clear();
        frame.data.clear();
        if !mkv.next_frame(&mut frame).map_err(|e| damaged(&e))? {
            break;
        }
        end = end.max(frame.timestamp as i64);
        let found = place(&reads.borrow(), &frame.data);
        if let Some(found) = found {
            clock.hear(&reads.borrow()[..found], frame.timestamp as i64);
        }
        if frame.track != entry.track_number().get() || frame.is_invisible {
            continue;
        }
        let Some(offset) = found.map(|found| reads.borrow()[found].position) else {
            return Err(damaged(&"a block was not found at its offset"));
        };
        let is_key = || match &codec {
            Ok((codec, _)) => codec.is_key(&[prefix.as_slice(), &frame.data].concat()),
            Err(_) => false,
        };
        samples.push(Sample {
            offset,
            size: frame.data.len() as u64,
            time: clock.time(frame.timestamp as i64),
            is_key: frame.is_keyframe.unwrap_or_else(is_key),
            is_shown: true,
        });
    }
    check_whole(path, len, end, duration, entry.default_duration().map(|d| d.get() as f64 / scale))?;
    let (codec, sample_prefix) = codec?;
    Ok(Track {
        container: "matroska",
        codec,
        samples,
        units_per_second,
        fps: entry.default_duration().map(|d| 1e9 / d.get() as f64),
        // Times are rounded to whole units, usually milliseconds.
        time_tolerance: 2.0,
        orientation: Orientation::default(),
        colour: colour(&entry),
        sample_prefix,
    })
}

/// The video track; cover art is not one.
fn the_video(tracks: &[TrackEntry]) -> Option<&TrackEntry> {
    let mut videos = tracks.iter().filter(|t| t.track_type() == TrackType::Video);
    let is_still = |track: &TrackEntry| match track.codec_id() {
        "V_MJPEG" | "V_PNG" => true,
        // A bitmap header, whose fifth field is the codec.
        "V_MS/VFW/FOURCC" => track.codec_private().and_then(|p| p.get(16..20)).is_some_and(|name| {
            [b"MPNG", b"PNG1", b"png ", b"MJPG", b"mjpg", b"JPEG", b"jpeg"].iter().any(|still| name == *still)
        }),
        _ => false,
    };
    videos.clone().find(|track| !is_still(track)).or_else(|| videos.next())
}

fn no_video(tracks: &[TrackEntry]) -> String {
    if tracks.is_empty() {
        return "the file has no track".into();
    }
    let kind = |track: &TrackEntry| match track.track_type() {
        TrackType::Audio => "sound",
        TrackType::Subtitle => "text",
        _ => "of another kind",
    };
    let kinds: Vec<String> = tracks.iter().map(|t| format!("{} (`{}`)", kind(t), t.codec_id().escape_debug())).collect();
    format!("the file has no video track: its tracks are: {}", kinds.join(", "))
}

/// The end of the segment, which holds all but the file header, if its size is known.
fn segment_end(file: &mut (impl Read + Seek)) -> Option<u64> {
    const SEGMENT: u64 = 0x1853_8067;
    let mut at = 0;
    // The file header, optional elements to skip, then the segment.
    for _ in 0..8 {
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0; 16];
        let mut filled = 0;
        while filled < head.len() {
            match file.read(&mut head[filled..]).ok()? {
                0 => break,
                n => filled += n,
            }
        }
        let (id, id_len) = variable(&head[..filled])?;
        let (size, size_len) = variable(&head[id_len..filled])?;
        let marker = 1_u64 << (7 * size_len);
        // All ones mean an unknown size.
        if id == SEGMENT && size == 2 * marker - 1 {
            return None;
        }
        let end = at.checked_add((id_len + size_len) as u64)?.checked_add(size - marker)?;
        if id == SEGMENT {
            return Some(end);
        }
        at = end;
    }
    None
}

/// A variable-length integer, including the bit that marks its length, and that length in bytes.
fn variable(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = bytes.first()?.leading_zeros() as usize + 1;
    let bytes = bytes.get(..len).filter(|_| len <= 8)?;
    Some((bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b)), len))
}

/// Finds files that are cut off between two blocks, which the demuxer does not report: compares the duration in the header with
/// `end`, the time of the last block of any track.
fn check_whole(path: &Path, len: u64, end: i64, duration: Option<f64>, frame_duration: Option<f64>) -> Result<()> {
    let end = end as f64;
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

/// A piece that the demuxer read in one call.
#[derive(Debug, Clone, Copy)]
struct Piece {
    position: u64,
    len: usize,
    /// Its first bytes.
    head: [u8; 8],
}

/// The index of the piece that holds `data`: the last one with this length and these first bytes.
fn place(reads: &[Piece], data: &[u8]) -> Option<usize> {
    let head = &data[..data.len().min(8)];
    reads.iter().rposition(|piece| piece.len == data.len() && &piece.head[..head.len()] == head)
}

/// Recovers negative block times. Block times are relative to their cluster and may be negative, as those of leading pictures at
/// the start of a clip that was cut out of a longer one; the demuxer replaces negative times by zero.
#[derive(Debug, Default)]
struct Clock {
    cluster: i64,
    relative: i64,
}

impl Clock {
    /// Processes a block to which the demuxer gave the time `told`; `reads` are the pieces read before its data.
    fn hear(&mut self, reads: &[Piece], told: i64) {
        // Two bytes of time and one of flags precede the data; in a block of several frames they precede the first frame.
        let header = reads.windows(2).rev().find(|w| [w[0].len, w[1].len] == [2, 1] && w[0].position + 2 == w[1].position);
        if let Some(&[time, _]) = header {
            self.relative = i64::from(i16::from_be_bytes([time.head[0], time.head[1]]));
            if told > 0 || self.relative >= 0 {
                self.cluster = told.saturating_sub(self.relative);
            }
        }
    }

    fn time(&self, told: i64) -> i64 {
        if told == 0 && self.relative < 0 { self.cluster.saturating_add(self.relative) } else { told }
    }
}

/// Records the offset of each piece: the demuxer returns the contents of blocks, but not their offsets.
struct Recorder<R> {
    inner: R,
    position: u64,
    reads: Rc<RefCell<Vec<Piece>>>,
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position += n as u64;
        Ok(n)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buffer)?;
        let mut head = [0; 8];
        let known = buffer.len().min(8);
        head[..known].copy_from_slice(&buffer[..known]);
        self.reads.borrow_mut().push(Piece { position: self.position, len: buffer.len(), head });
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Clock, Piece, place, segment_end};

    fn piece(position: u64, data: &[u8]) -> Piece {
        let mut head = [0; 8];
        head[..data.len().min(8)].copy_from_slice(&data[..data.len().min(8)]);
        Piece { position, len: data.len(), head }
    }

    #[test]
    fn the_end_of_the_segment_is_read() {
        let end = |bytes: &[u8]| segment_end(&mut Cursor::new(bytes));
        let head = [0x1A, 0x45, 0xDF, 0xA3, 0x82, 7, 7];
        let segment = |size: &[u8]| [head.as_slice(), &[0x18, 0x53, 0x80, 0x67], size, &[0; 20]].concat();
        assert_eq!(end(&segment(&[0x84])), Some(7 + 5 + 4));
        assert_eq!(end(&segment(&[0x40, 0x84])), Some(7 + 6 + 0x84));
        assert_eq!(end(&segment(&[0x01, 0, 0, 0, 0, 0, 1, 0])), Some(7 + 12 + 256));
        // Unknown, as in a live recording.
        assert_eq!(end(&segment(&[0xFF])), None);
        assert_eq!(end(&segment(&[0x01, 255, 255, 255, 255, 255, 255, 255])), None);
        assert_eq!(end(&head), None);
        assert_eq!(end(&[0; 40]), None);
    }

    #[test]
    fn times_before_zero_are_kept() {
        let mut clock = Clock::default();
        let mut time = |relative: i16, told: i64| {
            clock.hear(&[piece(0, &[0xA3]), piece(2, &[0x81]), piece(3, &relative.to_be_bytes()), piece(5, &[0])], told);
            clock.time(told)
        };
        // The cluster is at 50.
        assert_eq!([time(0, 50), time(-70, 0), time(-90, 0), time(30, 80), time(-20, 30)], [50, -20, -40, 80, 30]);
    }

    #[test]
    fn data_is_found_among_what_was_read() {
        let reads = [piece(10, &[1; 4]), piece(20, &[2; 4]), piece(30, &[9]), piece(40, &[7])];
        assert_eq!(place(&reads, &[1; 4]), Some(0));
        assert_eq!(place(&reads, &[9]), Some(2));
        assert_eq!(place(&reads, &[5]), None);
    }
}
