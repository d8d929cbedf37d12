//! mp4 and mov files, through `re_mp4`.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use re_mp4::{Mp4, StsdBoxContent, TrackKind};

use super::{Codec, Sample, Track, boxes, h264, h265};
use crate::orientation::Orientation;
use crate::stretch::Stretch;
use crate::{Error, Result, contain};

pub(super) fn open(stretch: &Stretch) -> Result<Track> {
    let path = &stretch.path;
    let mut file = stretch.open()?;
    let len = file.len();
    let mp4 = contain::run(|| Mp4::read(Progress::new(BufReader::new(&mut file)), len).map_err(|e| e.to_string()))
        .map_err(|e| Error::damaged(path, format!("the mp4 index cannot be read: {e}")))?;
    let Some(track) = mp4.tracks().values().find(|t| t.kind == Some(TrackKind::Video)) else {
        let unknown = mp4.moov.traks.iter().find_map(|t| match &t.mdia.minf.stbl.stsd.contents {
            StsdBoxContent::Unknown(name) if &t.mdia.hdlr.handler_type.value == b"vide" => Some(name.to_string()),
            _ => None,
        });
        return Err(match unknown {
            Some(name) => unsupported(path, &name),
            None => Error::not_video(path, "the mp4 file has no video track"),
        });
    };
    let trak = track.trak(&mp4);
    let config = track.raw_codec_config(&mp4).unwrap_or_default();
    let codec = match &trak.mdia.minf.stbl.stsd.contents {
        StsdBoxContent::Avc1(_) => Codec::H264(h264::Config::new(&config).map_err(|e| Error::damaged(path, e))?),
        StsdBoxContent::Hvc1(_) | StsdBoxContent::Hev1(_) => {
            Codec::H265(h265::Config::new(&config).map_err(|e| Error::damaged(path, e))?)
        }
        StsdBoxContent::Vp09(_) => Codec::Vp9,
        StsdBoxContent::Av01(_) => return Err(unsupported(path, "av1")),
        StsdBoxContent::Vp08(_) => return Err(unsupported(path, "vp8")),
        _ => return Err(unsupported(path, "this codec")),
    };
    let m = &trak.tkhd.matrix;
    let orientation = Orientation::from_matrix([m.a, m.b, m.c, m.d]).ok_or_else(|| {
        let what = "the display matrix turns the video by other than quarter turns, which only ffmpeg can show: install it";
        Error::unsupported(path, what)
    })?;
    if track.timescale == 0 {
        return Err(Error::damaged(path, "the time scale of the video track is zero"));
    }
    let edits = edits(&mp4, track);
    let samples: Vec<Sample> = track
        .samples
        .iter()
        .map(|s| Sample {
            offset: s.offset,
            size: s.size,
            time: s.composition_timestamp,
            is_key: s.is_sync,
            is_shown: edits.is_empty()
                || edits.iter().any(|&(from, to)| from <= s.composition_timestamp && s.composition_timestamp < to),
        })
        .collect();
    let index = mp4.moov.traks.iter().position(|t| t.tkhd.track_id == track.track_id).unwrap_or_default();
    let length: u64 = track.samples.iter().map(|s| s.duration).fold(0, u64::saturating_add);
    let units_per_second = track.timescale as f64;
    Ok(Track {
        container: "mp4",
        codec,
        fps: (length > 0).then(|| samples.len() as f64 * units_per_second / length as f64),
        samples,
        units_per_second,
        // Rates that the time scale does not divide (29.97 at 1/1000 s) are rounded up and down.
        time_tolerance: 1.0_f64.max(units_per_second * 0.0015),
        orientation,
        colour: boxes::colour(&mut file, index).unwrap_or_default(),
        sample_prefix: Vec::new(),
    })
}

fn unsupported(path: &std::path::Path, codec: &str) -> Error {
    Error::unsupported(path, format!("{codec} video is not decoded here; install ffmpeg, or convert the file to H.264"))
}

/// Which composition times the edit list shows, on the scale of `re_mp4`, where the first picture has time 0: any of the
/// ranges [from, to). Empty: all of them. Fragmented files have no use for edit lists here.
fn edits(mp4: &Mp4, track: &re_mp4::Track) -> Vec<(i64, i64)> {
    let trak = track.trak(mp4);
    let stbl = &trak.mdia.minf.stbl;
    let entries = trak.edts.as_ref().and_then(|e| e.elst.as_ref()).map(|e| e.entries.as_slice()).unwrap_or_default();
    let (Some(first), true) = (track.samples.first(), mp4.moofs.is_empty()) else { return Vec::new() };
    let offsets = || stbl.ctts.iter().flat_map(|ctts| &ctts.entries).map(|e| i64::from(e.sample_offset));
    let most_negative = offsets().fold(0_i64, |most, o| most.max(-o));
    // `re_mp4` subtracted the first picture's time from all times, and this shift from the decoding times.
    let origin = -first.decode_timestamp - most_negative;
    let movie_scale = mp4.moov.mvhd.timescale.max(1) as f64;
    let mut shown = Vec::new();
    for entry in entries {
        // −1, in 4 or 8 bytes: a pause before the start.
        if entry.media_time == u64::from(u32::MAX) || entry.media_time == u64::MAX {
            continue;
        }
        let from = i64::try_from(entry.media_time).unwrap_or(i64::MAX).saturating_sub(origin);
        let length = (entry.segment_duration as f64 / movie_scale * track.timescale as f64).round() as i64;
        shown.push((from, if length == 0 { i64::MAX } else { from.saturating_add(length) }));
    }
    shown
}

/// Ends the reading of a damaged index that sends the parser round in circles: it must get on through the file.
struct Progress<R> {
    inner: R,
    position: u64,
    furthest: u64,
    idle: u32,
}

impl<R> Progress<R> {
    /// An intact file takes a few steps between two boxes.
    const MAX_IDLE: u32 = 10_000;

    fn new(inner: R) -> Self {
        Self { inner, position: 0, furthest: 0, idle: 0 }
    }

    fn step(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        self.idle = if position > self.furthest { 0 } else { self.idle + 1 };
        self.furthest = self.furthest.max(position);
        if self.idle > Self::MAX_IDLE { Err(io::Error::other("its boxes lead round in circles")) } else { Ok(()) }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.step(self.position + n as u64)?;
        Ok(n)
    }
}

impl<R: Seek> Seek for Progress<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.step(position)?;
        Ok(position)
    }
}
