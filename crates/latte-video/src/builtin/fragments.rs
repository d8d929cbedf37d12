//! Coded pictures of a fragmented mp4 file: `moof` boxes (ISO/IEC 14496-12, 8.8).

use super::boxes::{Fields, boxes, child};
use super::fault::Fault;
use super::sample_table::{Coded, MAX_SAMPLES, SampleTable};

/// Flags of `tfhd`.
const BASE_OFFSET: u32 = 0x01;
const DESCRIPTION: u32 = 0x02;
const DURATION: u32 = 0x08;
const SIZE: u32 = 0x10;
const FLAGS: u32 = 0x20;
const BASE_IS_MOOF: u32 = 0x02_0000;
/// Flags of `trun`.
const RUN_OFFSET: u32 = 0x01;
const RUN_FIRST_FLAGS: u32 = 0x04;
const RUN_DURATION: u32 = 0x100;
const RUN_SIZE: u32 = 0x200;
const RUN_FLAGS: u32 = 0x400;
const RUN_COMPOSITION: u32 = 0x800;
/// Sample flags: decoding cannot begin at this picture, or it depends on others.
const IS_NO_KEY: u32 = 0x0101_0000;

/// Values of pictures that have none of their own.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    description: u32,
    duration: u32,
    size: u32,
    flags: u32,
}

impl Defaults {
    /// The defaults of a track, from the `trex` box in `moov`.
    fn of_track(moov: &[u8], track: u32) -> Self {
        let rows =
            child(moov, b"mvex").into_iter().flat_map(boxes).filter(|(name, _)| *name == b"trex").filter_map(|(_, body)| {
                let mut fields = Fields(body);
                fields.version_and_flags()?;
                let id = fields.u32()?;
                let [description, duration, size, flags] = [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
                Some((id, Self { description, duration, size, flags }))
            });
        let none = Self { description: 1, duration: 0, size: 0, flags: 0 };
        rows.filter(|(id, _)| *id == track).map(|(_, defaults)| defaults).next().unwrap_or(none)
    }
}

/// Adds the pictures of `track` in `fragments` (offset of each `moof` and its contents) to `table`.
pub(super) fn append(
    table: &mut SampleTable,
    moov: &[u8],
    fragments: &[(u64, Vec<u8>)],
    track: u32,
    file_len: u64,
) -> Result<(), Fault> {
    let defaults = Defaults::of_track(moov, track);
    for (at, moof) in fragments {
        // Without an explicit offset, the data of a track follows that of the previous track.
        let mut data_end = *at;
        for (_, traf) in boxes(moof).filter(|(name, _)| *name == b"traf") {
            let mut run = Run { table, track, file_len, moof_at: *at, data_end };
            data_end = run.traf(traf, defaults).unwrap_or_else(|| Err(format!("the fragment at byte {at} is cut off").into()))?;
        }
    }
    Ok(())
}

/// The state of reading one track's part of a fragment.
struct Run<'a> {
    table: &'a mut SampleTable,
    track: u32,
    file_len: u64,
    moof_at: u64,
    data_end: u64,
}

impl Run<'_> {
    /// Reads a `traf` box; returns where its data ends. `None` if the box is cut off.
    fn traf(&mut self, traf: &[u8], mut defaults: Defaults) -> Option<Result<u64, Fault>> {
        let mut fields = Fields(child(traf, b"tfhd")?);
        let (_, flags) = fields.version_and_flags()?;
        let is_ours = fields.u32()? == self.track;
        let mut base = if flags & BASE_IS_MOOF != 0 { self.moof_at } else { self.data_end };
        if flags & BASE_OFFSET != 0 {
            base = fields.u64()?;
        }
        for (bit, value) in [
            (DESCRIPTION, &mut defaults.description),
            (DURATION, &mut defaults.duration),
            (SIZE, &mut defaults.size),
            (FLAGS, &mut defaults.flags),
        ] {
            if flags & bit != 0 {
                *value = fields.u32()?;
            }
        }
        if is_ours && let Some(body) = child(traf, b"tfdt") {
            let mut fields = Fields(body);
            let (version, _) = fields.version_and_flags()?;
            // Limited, because durations are added to it, which must not overflow.
            self.table.end = i64::try_from(fields.by_version(version)?).unwrap_or(i64::MAX).min(i64::MAX >> 2);
        }
        let mut end = base;
        for (_, body) in boxes(traf).filter(|(name, _)| *name == b"trun") {
            match self.trun(body, base, end, defaults, is_ours)? {
                Ok(after) => end = after,
                Err(what) => return Some(Err(what)),
            }
        }
        Some(Ok(end))
    }

    /// Reads a `trun` box, whose data begins at `end`, where the previous run ends, unless the box has an offset from `base`.
    fn trun(&mut self, body: &[u8], base: u64, end: u64, defaults: Defaults, is_ours: bool) -> Option<Result<u64, Fault>> {
        let mut fields = Fields(body);
        let (_, flags) = fields.version_and_flags()?;
        let count = fields.u32()? as usize;
        let mut offset = end;
        if flags & RUN_OFFSET != 0 {
            offset = base.saturating_add_signed(i64::from(fields.i32()?));
        }
        let first_flags = if flags & RUN_FIRST_FLAGS != 0 { Some(fields.u32()?) } else { None };
        if count > MAX_SAMPLES - self.table.samples.len() {
            return Some(Err(format!("it has more than {MAX_SAMPLES} pictures").into()));
        }
        // If the pictures have no fields of their own, only the length of the file bounds their number.
        let is_bare = flags & (RUN_DURATION | RUN_SIZE | RUN_FLAGS | RUN_COMPOSITION) == 0;
        if is_bare && (u64::from(defaults.size.max(1)) * count as u64) > self.file_len {
            let what = format!("a fragment has {count} pictures of {} bytes, the file has {}", defaults.size, self.file_len);
            return Some(Err(what.into()));
        }
        if is_ours
            && count > 0
            && let Err(what) = self.table.describe(defaults.description)
        {
            return Some(Err(what));
        }
        for index in 0..count {
            let mut own = |bit: u32, default: u32| if flags & bit != 0 { fields.u32() } else { Some(default) };
            let duration = own(RUN_DURATION, defaults.duration)?;
            let size = u64::from(own(RUN_SIZE, defaults.size)?);
            let default_flags = first_flags.filter(|_| index == 0).unwrap_or(defaults.flags);
            let sample_flags = own(RUN_FLAGS, default_flags)?;
            // Signed in version 1 of the box; also in version 0, because some writers only write version 0.
            let composition = own(RUN_COMPOSITION, 0)?.cast_signed();
            if is_ours {
                let shown_at = self.table.end.saturating_add(i64::from(composition));
                self.table.samples.push(Coded { offset, size, shown_at, is_key: sample_flags & IS_NO_KEY == 0 });
                self.table.end = self.table.end.saturating_add(i64::from(duration));
                self.table.length = self.table.length.saturating_add(u64::from(duration));
            }
            offset = offset.saturating_add(size);
        }
        Some(Ok(offset))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Fault, append};
    use crate::builtin::sample_table::SampleTable;

    fn boxed(name: &[u8], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), name, body].concat()
    }

    fn full(name: &[u8], version: u8, flags: u32, words: &[u32]) -> Vec<u8> {
        let words = [&[u32::from(version) << 24 | flags], words].concat();
        boxed(name, &words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// `moov` with defaults of track 1: pictures of 20 units and 5 bytes.
    fn moov() -> Vec<u8> {
        boxed(b"mvex", &full(b"trex", 0, 0, &[1, 1, 20, 5, 0x0101_0000]))
    }

    fn read(traf: &[u8], file_len: u64) -> Result<SampleTable, Fault> {
        let mut table = SampleTable::default();
        append(&mut table, &moov(), &[(300, boxed(b"traf", traf))], 1, file_len).map(|()| table)
    }

    proptest! {
        #[test]
        fn offsets_are_signed(version in 0_u8..2, start in 0_u32..1000, offsets in prop::collection::vec(-500_i32..500, 1..40)) {
            let rows: Vec<u32> = offsets.iter().map(|o| o.cast_unsigned()).collect();
            let run = full(b"trun", version, 0x805, &[&[offsets.len() as u32, 70, 0], rows.as_slice()].concat());
            let traf = [full(b"tfhd", 0, 0x02_0000, &[1]), full(b"tfdt", 0, 0, &[start]), run].concat();
            let table = read(&traf, 1 << 20).unwrap();
            let shown: Vec<i64> = table.samples.iter().map(|s| s.shown_at).collect();
            let expected: Vec<i64> = offsets.iter().enumerate().map(|(i, &o)| i64::from(start) + 20 * i as i64 + i64::from(o)).collect();
            prop_assert_eq!(shown, expected);
            let keys: Vec<bool> = table.samples.iter().map(|s| s.is_key).collect();
            prop_assert!(keys[0] && !keys[1..].contains(&true));
            prop_assert_eq!(table.samples.last().unwrap().offset, 300 + 70 + 5 * (offsets.len() as u64 - 1));
        }

        #[test]
        fn damaged_fragments_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
            let run = full(b"trun", 1, 0xF01, &[2, 70, 20, 5, 0, 0, 20, 5, 0, 0]);
            let mut traf = [full(b"tfhd", 0, 0x02_0000, &[1]), full(b"tfdt", 1, 0, &[0, 40]), run].concat();
            for (at, value) in changes {
                let at = at.index(traf.len());
                traf[at] = value;
            }
            if let Ok(table) = read(&traf, 1 << 20) {
                prop_assert!(table.samples.len() <= 1 << 20);
            }
        }
    }

    #[test]
    fn data_of_runs_and_tracks_follow_each_other() {
        let run = full(b"trun", 0, 0, &[2]);
        let first = [full(b"tfhd", 0, 0, &[2]), full(b"trun", 0, 1, &[3, 100])].concat();
        let second = [full(b"tfhd", 0, 0, &[1]), run.clone(), run].concat();
        let mut table = SampleTable::default();
        let moof = [boxed(b"traf", &first), boxed(b"traf", &second)].concat();
        append(&mut table, &moov(), &[(300, moof)], 1, 1 << 20).unwrap();
        let offsets: Vec<u64> = table.samples.iter().map(|s| s.offset).collect();
        // Three pictures of five bytes of another track come first.
        assert_eq!(offsets, [415, 420, 425, 430]);
    }

    #[test]
    fn a_count_larger_than_the_file_allows_is_refused() {
        let traf = [full(b"tfhd", 0, 0, &[1]), full(b"trun", 0, 0, &[u32::MAX])].concat();
        assert!(read(&traf, 1 << 20).is_err());
        let traf = [full(b"tfhd", 0, 0, &[1]), full(b"trun", 0, 0, &[1_000_000])].concat();
        assert!(read(&traf, 1 << 20).unwrap_err().to_string().contains("1000000 pictures"));
    }
}
