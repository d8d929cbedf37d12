//! mp4 and mov files.

use super::boxes::{Fields, Index, boxes, child, descendant};
use super::fault::Fault;
use super::sample_table::SampleTable;
use super::{Codec, Sample, Track, fragments, h264, h265};
use crate::byte_range::ByteRange;
use crate::colour::Colour;
use crate::orientation::Orientation;
use crate::{Error, Result, panic_guard};

/// The parts of a `trak` box that are read first.
struct Trak<'a> {
    body: &'a [u8],
    /// `vide`, `soun`, …
    kind: [u8; 4],
    /// The name of its first sample description: `avc1`, `mp4a`, …
    coding: [u8; 4],
}

pub(super) fn open(byte_range: &ByteRange) -> Result<Track> {
    let path = &byte_range.path;
    let mut file = byte_range.open()?;
    let len = file.len();
    let index = Index::read(&mut file, len).map_err(|e| Error::io(path, e))?;
    let index = index.map_err(|what| Error::damaged(path, what))?;
    let traks: Vec<Trak<'_>> =
        boxes(&index.moov).filter(|(name, _)| *name == b"trak").filter_map(|(_, body)| Trak::of(body)).collect();
    let Some(trak) = the_video(&traks) else { return Err(Error::not_video(path, no_video(&traks))) };
    panic_guard::run(|| read(trak, &index, len)).map_err(|fault| fault.of(path))
}

/// The video track; cover art, which some writers put first, is not one.
fn the_video<'a, 'b>(traks: &'a [Trak<'b>]) -> Option<&'a Trak<'b>> {
    let mut videos = traks.iter().filter(|trak| &trak.kind == b"vide");
    let is_still = |trak: &Trak<'_>| match &trak.coding {
        b"png " | b"jpeg" | b"mjpa" | b"mjpb" | b"tiff" | b"gif " | b"BMP " => true,
        // The object types of JPEG and PNG (ISO/IEC 14496-1, table 5).
        b"mp4v" => trak.descriptions().next().is_some_and(|(_, entry)| matches!(object_type(entry), Some(0x6C | 0x6D))),
        _ => false,
    };
    videos.clone().find(|trak| !is_still(trak)).or_else(|| videos.next())
}

/// The object type in the `esds` box of a visual sample description. The box nests descriptors; each has a tag, a length coded in 7
/// bits per byte with the highest bit set in all bytes but the last, and contents.
fn object_type(entry: &[u8]) -> Option<u8> {
    let mut fields = Fields(child(entry.get(78..)?, b"esds")?);
    fields.version_and_flags()?;
    let skip_length = |fields: &mut Fields<'_>| {
        while fields.u8()? & 0x80 != 0 {}
        Some(())
    };
    if fields.u8()? != 3 {
        return None;
    }
    skip_length(&mut fields)?;
    fields.take(2)?;
    let flags = fields.u8()?;
    if flags & 0x80 != 0 {
        fields.take(2)?;
    }
    if flags & 0x40 != 0 {
        let len = fields.u8()?;
        fields.take(len as usize)?;
    }
    if flags & 0x20 != 0 {
        fields.take(2)?;
    }
    if fields.u8()? != 4 {
        return None;
    }
    skip_length(&mut fields)?;
    fields.u8()
}

fn no_video(traks: &[Trak<'_>]) -> String {
    if traks.is_empty() {
        return "the file has no track".into();
    }
    let kind = |trak: &Trak<'_>| match &trak.kind {
        b"soun" => "sound".to_string(),
        b"text" | b"sbtl" | b"subt" => "text".to_string(),
        b"pict" => "still pictures".to_string(),
        other => format!("kind `{}`", four(*other)),
    };
    let kinds: Vec<String> = traks.iter().map(|trak| format!("{} (`{}`)", kind(trak), four(trak.coding))).collect();
    format!("the file has no video track: its tracks are: {}", kinds.join(", "))
}

/// A four-letter name with unprintable bytes escaped.
fn four(name: [u8; 4]) -> String {
    name.escape_ascii().to_string()
}

impl<'a> Trak<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let mut handler = Fields(descendant(body, &[b"mdia", b"hdlr"])?);
        handler.take(8)?;
        let kind = *handler.take(4)?.first_chunk()?;
        let this = Self { body, kind, coding: *b"    " };
        let coding = this.descriptions().next().map_or(this.coding, |(name, _)| *name);
        Some(Self { coding, ..this })
    }

    /// The sample descriptions, each as name and contents.
    fn descriptions(&self) -> impl Iterator<Item = (&'a [u8; 4], &'a [u8])> {
        let stsd = descendant(self.body, &[b"mdia", b"minf", b"stbl", b"stsd"]).unwrap_or_default();
        // Version, flags and a count come first.
        boxes(stsd.get(8..).unwrap_or_default())
    }
}

fn read(trak: &Trak<'_>, index: &Index, file_len: u64) -> Result<Track, Fault> {
    let stbl = descendant(trak.body, &[b"mdia", b"minf", b"stbl"]).ok_or("the video track has no index")?;
    let mut table = SampleTable::read(stbl, file_len)?;
    let edits = if index.fragments.is_empty() { Edits::read(trak.body, &index.moov)? } else { Edits::default() };
    let track_id = track_id(trak.body).ok_or("the box `tkhd` is missing or cut off")?;
    fragments::append(&mut table, &index.moov, &index.fragments, track_id, file_len)?;
    let samples: Vec<Sample> = table
        .samples
        .iter()
        .map(|s| Sample { offset: s.offset, size: s.size, time: s.shown_at, is_key: s.is_key, is_shown: edits.show(s.shown_at) })
        .collect();
    let timescale = time_scale(child(trak.body, b"mdia").and_then(|mdia| child(mdia, b"mdhd")));
    let units_per_second = f64::from(timescale.filter(|&s| s > 0).ok_or("the time scale of the video track is missing or zero")?);
    let number = table.description.unwrap_or(1) as usize - 1;
    let (name, entry) = trak.descriptions().nth(number).ok_or("the description of the coding is missing")?;
    let codec = codec(*name, entry).and_then(|codec| Ok((codec, orientation(trak.body)?)));
    let (codec, orientation) = codec.map_err(|fault| cut_off(&samples, file_len).unwrap_or(fault))?;
    Ok(Track {
        container: "mp4",
        codec,
        fps: (table.length > 0).then(|| samples.len() as f64 * units_per_second / table.length as f64),
        samples,
        units_per_second,
        // Frame rates that do not divide the time scale (29.97 at 1/1000 s) give times that are rounded up or down.
        time_tolerance: 1.0_f64.max(units_per_second * 0.0015),
        orientation,
        colour: colour(entry).unwrap_or_default(),
        sample_prefix: Vec::new(),
    })
}

/// Reports pictures beyond the end of the file, which matters more than an unsupported codec.
fn cut_off(samples: &[Sample], file_len: u64) -> Option<Fault> {
    let index = samples.iter().position(|s| !s.lies_within(file_len))?;
    Some(Fault::Damaged(format!("coded picture {index} should lie at byte {}, the file has {file_len}", samples[index].offset)))
}

/// The codec of the sample description `name`.
fn codec(name: [u8; 4], entry: &[u8]) -> Result<Codec, Fault> {
    let config = |record: &[u8; 4]| {
        let boxes = entry.get(78..).unwrap_or_default();
        child(boxes, record).ok_or_else(|| Fault::Damaged(format!("the box `{}` is missing", four(*record))))
    };
    let unsupported = |what: &str| {
        Err(Fault::Unsupported(format!("{what} video is not decoded here; install ffmpeg, or convert the file to H.264")))
    };
    match &name {
        b"avc1" | b"avc3" => Ok(Codec::H264(h264::Config::new(config(b"avcC")?)?)),
        b"hvc1" | b"hev1" => Ok(Codec::H265(h265::Config::new(config(b"hvcC")?)?)),
        b"vp09" => Ok(Codec::Vp9),
        b"av01" => unsupported("av1"),
        b"vp08" => unsupported("vp8"),
        b"encv" => Err(Fault::Unsupported("its video is encrypted: decrypt it first".into())),
        other => unsupported(&four(*other)),
    }
}

fn track_id(trak: &[u8]) -> Option<u32> {
    let mut fields = Fields(child(trak, b"tkhd")?);
    let (version, _) = fields.version_and_flags()?;
    fields.take(if version == 0 { 8 } else { 16 })?;
    fields.u32()
}

fn orientation(trak: &[u8]) -> Result<Orientation, Fault> {
    let matrix = || {
        let mut fields = Fields(child(trak, b"tkhd")?);
        let (version, _) = fields.version_and_flags()?;
        // Skips times, the track's number and its duration; layer, group and volume.
        fields.take(if version == 0 { 20 } else { 32 } + 16)?;
        let [a, b, _, c, d] = [fields.i32()?, fields.i32()?, fields.i32()?, fields.i32()?, fields.i32()?];
        Some([a, b, c, d])
    };
    let matrix = matrix().ok_or("the box `tkhd` is missing or cut off")?;
    Orientation::from_matrix(matrix).ok_or_else(|| {
        let [a, b, ..] = matrix.map(f64::from);
        Fault::Unsupported(Orientation::refusal(b.atan2(a).to_degrees()))
    })
}

/// The time scale of an `mdhd` or `mvhd` box, in units per second.
fn time_scale(header: Option<&[u8]>) -> Option<u32> {
    let mut fields = Fields(header?);
    let (version, _) = fields.version_and_flags()?;
    fields.take(if version == 0 { 8 } else { 16 })?;
    fields.u32()
}

/// The colour description in the `colr` box of a sample description, if there is one.
fn colour(entry: &[u8]) -> Option<Colour> {
    // The fields of a visual sample entry take 78 bytes.
    let colr = child(entry.get(78..)?, b"colr")?;
    let kind = colr.get(..4)?;
    if kind != b"nclx" && kind != b"nclc" {
        return None;
    }
    let matrix = Fields(colr.get(8..)?).u16()?;
    let full_range = kind == b"nclx" && colr.get(10)? >> 7 == 1;
    Some(Colour::from_codes(u8::try_from(matrix).unwrap_or(2), full_range))
}

/// The times that an edit list shows, as ranges [from, to); all if empty. Not used for fragmented files.
#[derive(Debug, Default)]
struct Edits(Vec<(i64, i64)>);

impl Edits {
    fn read(trak: &[u8], moov: &[u8]) -> Result<Self, Fault> {
        let Some(elst) = descendant(trak, &[b"edts", b"elst"]) else { return Ok(Self::default()) };
        let media = time_scale(child(trak, b"mdia").and_then(|mdia| child(mdia, b"mdhd"))).unwrap_or(1);
        let movie = time_scale(child(moov, b"mvhd")).unwrap_or(1).max(1);
        Self::parse(elst, f64::from(media) / f64::from(movie)).ok_or("the edit list is cut off")?
    }

    /// `scale`: units of media time per unit of movie time.
    fn parse(elst: &[u8], scale: f64) -> Option<Result<Self, Fault>> {
        let mut fields = Fields(elst);
        let (version, _) = fields.version_and_flags()?;
        let mut shown: Vec<(i64, i64)> = Vec::new();
        for _ in 0..fields.u32()? {
            let duration = fields.by_version(version)?;
            let from = if version == 0 { i64::from(fields.i32()?) } else { fields.u64()?.cast_signed() };
            fields.take(4)?;
            // An empty edit: a pause before the start.
            if from < 0 {
                continue;
            }
            let length = (duration as f64 * scale).round() as i64;
            let to = if length == 0 { i64::MAX } else { from.saturating_add(length) };
            if shown.last().is_some_and(|&(_, end)| from < end) {
                let what = "its edit list shows parts of it twice or in another order, which is not supported";
                return Some(Err(Fault::Unsupported(what.into())));
            }
            shown.push((from, to));
        }
        Some(Ok(Self(shown)))
    }

    fn show(&self, time: i64) -> bool {
        // The ranges ascend: only the last that begins before the time can contain it.
        let next = self.0.partition_point(|&(from, _)| from <= time);
        self.0.is_empty() || next.checked_sub(1).is_some_and(|i| time < self.0[i].1)
    }
}

/// Whether the file begins like an mp4 or mov file.
pub(super) fn is_mp4(head: &[u8]) -> bool {
    // Old mov files have no `ftyp`; others begin with padding.
    head.get(4..8).is_some_and(|name| matches!(name, b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"styp"))
}

#[cfg(test)]
mod tests {
    use super::{Edits, Fault, open};
    use crate::byte_range::ByteRange;

    fn boxed(name: &[u8], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), name, body].concat()
    }

    /// The error for a file with tracks of these kinds and codecs that are otherwise empty.
    fn refusal(tracks: &[(&[u8; 4], &[u8; 4])]) -> String {
        let trak = |(kind, coding): &(&[u8; 4], &[u8; 4])| {
            let stsd = boxed(b"stsd", &[&[0; 7], [1].as_slice(), &boxed(*coding, &[0; 78])].concat());
            let stbl = boxed(b"minf", &boxed(b"stbl", &stsd));
            boxed(b"trak", &boxed(b"mdia", &[boxed(b"hdlr", &[&[0; 8], kind.as_slice(), &[0; 12]].concat()), stbl].concat()))
        };
        let moov = boxed(b"moov", &tracks.iter().flat_map(trak).collect::<Vec<u8>>());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        std::fs::write(&path, [boxed(b"ftyp", b"isom"), moov].concat()).unwrap();
        open(&ByteRange::whole(&path)).unwrap_err().to_string()
    }

    #[test]
    fn a_file_without_video_is_refused_with_its_tracks() {
        let said = refusal(&[(b"soun", b"mp4a"), (b"tmcd", b"tmcd")]);
        assert!(said.contains("no video track") && said.contains("sound (`mp4a`), kind `tmcd` (`tmcd`)"), "{said}");
        assert!(refusal(&[]).contains("no track"));
        // Cover art is skipped if a video follows, whose box `tkhd` is missing here; alone it is refused.
        for cover in [b"png ", b"jpeg"] {
            let said = refusal(&[(b"vide", cover), (b"vide", b"avc1")]);
            assert!(said.contains("tkhd"), "{said}");
        }
    }

    fn list(version: u8, rows: &[(u64, i64)]) -> Vec<u8> {
        let mut bytes = vec![version, 0, 0, 0];
        bytes.extend((rows.len() as u32).to_be_bytes());
        for &(duration, from) in rows {
            if version == 0 {
                bytes.extend((duration as u32).to_be_bytes());
                bytes.extend((from as i32).to_be_bytes());
            } else {
                bytes.extend(duration.to_be_bytes());
                bytes.extend(from.to_be_bytes());
            }
            bytes.extend([0, 1, 0, 0]);
        }
        bytes
    }

    #[test]
    fn an_edit_list_shows_its_ranges() {
        for version in [0, 1] {
            let edits = Edits::parse(&list(version, &[(7, -1), (10, 100), (5, 150)]), 2.0).unwrap().unwrap();
            let shown: Vec<i64> = (90..170).filter(|&t| edits.show(t)).collect();
            assert_eq!(shown, (100..120).chain(150..160).collect::<Vec<_>>());
            let open = Edits::parse(&list(version, &[(0, 100)]), 2.0).unwrap().unwrap();
            assert!(!open.show(99) && open.show(100) && open.show(i64::MAX - 1));
            // The same range twice, or ranges in reverse order.
            for rows in [[(10, 100), (10, 110)], [(10, 100), (10, 0)]] {
                assert!(matches!(Edits::parse(&list(version, &rows), 2.0), Some(Err(Fault::Unsupported(_)))));
            }
        }
        assert!(Edits::parse(&list(1, &[(7, 5)])[..20], 1.0).is_none());
        assert!(Edits::default().show(-5));
    }
}
