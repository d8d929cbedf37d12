//! Locations and presentation times of the coded pictures of an mp4 track: the tables of `stbl` (ISO/IEC 14496-12, 8.6 and 8.7).

use super::boxes::{Fields, child};
use super::fault::Fault;

/// Maximum number of pictures: 77 hours at 30 per second.
pub(super) const MAX_SAMPLES: usize = 1 << 23;

/// A coded picture, in units of the track's time scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Presentation time, before edit lists.
    pub(super) shown_at: i64,
    pub(super) is_key: bool,
}

/// The coded pictures of a track, in decoding order.
#[derive(Debug, Default)]
pub(super) struct SampleTable {
    pub(super) samples: Vec<Coded>,
    /// Decoding time of the next picture.
    pub(super) end: i64,
    /// Total duration of all pictures.
    pub(super) length: u64,
    /// Number of the sample description, from 1. A file may have several, for example if clips were joined.
    pub(super) description: Option<u32>,
}

impl SampleTable {
    /// Reads the tables in `stbl`, of a file of `file_len` bytes.
    pub(super) fn read(stbl: &[u8], file_len: u64) -> Result<Self, Fault> {
        let mut this = Self::default();
        let sizes = Sizes::read(stbl, file_len)?;
        if sizes.count == 0 {
            return Ok(this);
        }
        this.samples.reserve_exact(sizes.count);
        this.place(stbl, &sizes)?;
        this.time(stbl)?;
        Ok(this)
    }

    /// Computes the offsets: `stsc` has the number of pictures in each chunk, `stco` the offsets of the chunks.
    fn place(&mut self, stbl: &[u8], sizes: &Sizes<'_>) -> Result<(), Fault> {
        let runs: Vec<[u32; 3]> = table(stbl, b"stsc").ok_or("the table `stsc` is missing or cut off")?;
        let offsets = ChunkOffsets::read(stbl).ok_or("the table `stco` is missing or cut off")?;
        let mut run = 0;
        'chunks: for chunk in 0..offsets.count {
            while runs.get(run + 1).is_some_and(|next| next[0] as usize <= chunk + 1) {
                run += 1;
            }
            let Some(&[_, per_chunk, description]) = runs.get(run) else { break };
            let mut offset = offsets.get(chunk).ok_or("the table `stco` is cut off")?;
            if per_chunk > 0 {
                self.describe(description)?;
            }
            for _ in 0..per_chunk {
                let Some(size) = sizes.get(self.samples.len()) else { break 'chunks };
                self.samples.push(Coded { offset, size, shown_at: 0, is_key: false });
                offset = offset.saturating_add(size);
            }
        }
        if self.samples.len() < sizes.count {
            return Err(format!("its index has {} pictures and places for {}", sizes.count, self.samples.len()).into());
        }
        Ok(())
    }

    /// Records that a picture has the sample description `number`.
    pub(super) fn describe(&mut self, number: u32) -> Result<(), Fault> {
        let number = number.max(1);
        if *self.description.get_or_insert(number) == number {
            return Ok(());
        }
        let what = "its pictures change their coding within the video (several sample descriptions), which is not supported";
        Err(Fault::Unsupported(what.into()))
    }

    /// Computes presentation times: durations add up to the decoding time, to which an offset is added. Offsets are signed in
    /// version 1 of `ctts`; writers put negative ones into version 0, too, so values above 2³¹ count as negative there.
    fn time(&mut self, stbl: &[u8]) -> Result<(), Fault> {
        let durations: Vec<[u32; 2]> = table(stbl, b"stts").ok_or("the table `stts` is missing or cut off")?;
        let offsets: Vec<[u32; 2]> = match child(stbl, b"ctts") {
            Some(_) => table(stbl, b"ctts").ok_or("the table `ctts` is cut off")?,
            None => Vec::new(),
        };
        let (mut durations, mut offsets) = (Runs::new(&durations), Runs::new(&offsets));
        for sample in &mut self.samples {
            sample.shown_at = self.end + i64::from(offsets.next().unwrap_or(0).cast_signed());
            // If the table is too short, its last duration applies to the rest.
            let duration = durations.next().unwrap_or(durations.last);
            self.end += i64::from(duration);
            self.length += u64::from(duration);
        }
        // Without `stss`, decoding can begin at all pictures; `stps` of QuickTime lists key frames of open groups.
        let keys = [b"stss", b"stps"].map(|name| (child(stbl, name).is_some(), table::<1>(stbl, name)));
        if !keys[0].0 {
            self.samples.iter_mut().for_each(|sample| sample.is_key = true);
        }
        for (is_there, numbers) in keys {
            if is_there {
                for [number] in numbers.ok_or("the table of key frames is cut off")? {
                    if let Some(sample) = (number as usize).checked_sub(1).and_then(|i| self.samples.get_mut(i)) {
                        sample.is_key = true;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rows of a full box that holds a count and that many rows of `N` numbers.
fn table<const N: usize>(stbl: &[u8], name: &[u8]) -> Option<Vec<[u32; N]>> {
    let mut fields = Fields(child(stbl, name)?);
    fields.version_and_flags()?;
    let count = fields.u32()? as usize;
    let rows = fields.take(count.checked_mul(4 * N)?)?;
    let row = |row: &[u8]| std::array::from_fn(|i| Fields(&row[4 * i..]).u32().unwrap_or(0));
    Some(rows.chunks_exact(4 * N).map(row).collect())
}

/// Run-length coded values of pictures.
struct Runs<'a> {
    rows: &'a [[u32; 2]],
    left: u32,
    last: u32,
}

impl<'a> Runs<'a> {
    fn new(rows: &'a [[u32; 2]]) -> Self {
        Self { rows, left: 0, last: 0 }
    }

    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            let (&[count, value], rest) = self.rows.split_first()?;
            (self.rows, self.left, self.last) = (rest, count, value);
        }
        self.left -= 1;
        Some(self.last)
    }
}

/// The size of each picture in bytes: `stsz`, or `stz2` with fewer bits.
struct Sizes<'a> {
    count: usize,
    /// The size of all pictures; 0 if the table has individual sizes.
    common: u32,
    bits: u8,
    table: &'a [u8],
}

impl<'a> Sizes<'a> {
    fn read(stbl: &'a [u8], file_len: u64) -> Result<Self, Fault> {
        let is_compact = child(stbl, b"stsz").is_none();
        let Some(body) = child(stbl, if is_compact { b"stz2" } else { b"stsz" }) else {
            // Fragmented files may leave it out.
            return Ok(Self { count: 0, common: 0, bits: 32, table: &[] });
        };
        Self::parse(body, is_compact, file_len).ok_or_else(|| "the table `stsz` is not possible for a file of this length".into())
    }

    fn parse(body: &'a [u8], is_compact: bool, file_len: u64) -> Option<Self> {
        let mut fields = Fields(body);
        fields.version_and_flags()?;
        let word = fields.u32()?;
        let count = fields.u32()? as usize;
        let (common, bits) = if is_compact { (0, (word & 0xFF) as u8) } else { (word, 32) };
        if count > MAX_SAMPLES || !matches!(bits, 4 | 8 | 16 | 32) {
            return None;
        }
        let table = if common > 0 {
            // Sizes are not listed, so only the length of the file bounds their number.
            if u64::from(common) * count as u64 > file_len {
                return None;
            }
            &[]
        } else {
            fields.take((count * bits as usize).div_ceil(8))?
        };
        Some(Self { count, common, bits, table })
    }

    fn get(&self, index: usize) -> Option<u64> {
        if index >= self.count {
            return None;
        }
        if self.common > 0 {
            return Some(u64::from(self.common));
        }
        let mut at = Fields(self.table.get(index * self.bits as usize / 8..)?);
        match self.bits {
            4 => at.u8().map(|pair| u64::from(if index.is_multiple_of(2) { pair >> 4 } else { pair & 0xF })),
            8 => at.u8().map(u64::from),
            16 => at.u16().map(u64::from),
            _ => at.u32().map(u64::from),
        }
    }
}

/// The offsets of chunks: `stco`, or `co64` with 64 bits.
struct ChunkOffsets<'a> {
    count: usize,
    width: usize,
    table: &'a [u8],
}

impl<'a> ChunkOffsets<'a> {
    fn read(stbl: &'a [u8]) -> Option<Self> {
        let (body, width) = match child(stbl, b"stco") {
            Some(body) => (body, 4),
            None => (child(stbl, b"co64")?, 8),
        };
        let mut fields = Fields(body);
        fields.version_and_flags()?;
        let count = fields.u32()? as usize;
        Some(Self { count, width, table: fields.take(count.checked_mul(width)?)? })
    }

    fn get(&self, chunk: usize) -> Option<u64> {
        Fields(self.table.get(chunk * self.width..)?).by_version(u8::from(self.width == 8))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Coded, SampleTable};

    fn boxed(name: &[u8], version: u8, words: &[u32]) -> Vec<u8> {
        let body: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        [&(body.len() as u32 + 12).to_be_bytes(), name, &[version, 0, 0, 0], &body].concat()
    }

    /// A table with these composition offsets and two pictures in each chunk.
    fn stbl(version: u8, offsets: &[i32]) -> Vec<u8> {
        let n = offsets.len() as u32;
        let rows: Vec<u32> = offsets.iter().flat_map(|&o| [1, o.cast_unsigned()]).collect();
        let sizes: Vec<u32> = (0..n).map(|i| 10 + i).collect();
        let chunks: Vec<u32> = (0..n.div_ceil(2)).map(|i| 1000 * (i + 1)).collect();
        [
            boxed(b"stts", 0, &[1, n, 100]),
            boxed(b"ctts", version, &[&[n], rows.as_slice()].concat()),
            boxed(b"stsc", 0, &[1, 1, 2, 1]),
            boxed(b"stsz", 0, &[&[0, n], sizes.as_slice()].concat()),
            boxed(b"stco", 0, &[&[chunks.len() as u32], chunks.as_slice()].concat()),
            boxed(b"stss", 0, &[1, 1]),
        ]
        .concat()
    }

    proptest! {
        /// Offsets are signed in both versions of the box.
        #[test]
        fn offsets_are_signed(version in 0_u8..2, offsets in prop::collection::vec(-5000_i32..5000, 1..40)) {
            let found = SampleTable::read(&stbl(version, &offsets), 1 << 20).unwrap();
            for (i, (sample, &offset)) in found.samples.iter().zip(&offsets).enumerate() {
                let place = 1000 * (i as u64 / 2 + 1) + if i % 2 == 1 { 9 + i as u64 } else { 0 };
                let shown_at = 100 * i as i64 + i64::from(offset);
                prop_assert_eq!(*sample, Coded { offset: place, size: 10 + i as u64, shown_at, is_key: i == 0 });
            }
            prop_assert_eq!((found.samples.len(), found.length), (offsets.len(), 100 * offsets.len() as u64));
        }

        /// Damaged tables give a table or an error, and reading ends soon.
        #[test]
        fn damaged_tables_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
            let mut bytes = stbl(1, &[0, 100, -50, 0]);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(found) = SampleTable::read(&bytes, 1 << 20) {
                prop_assert!(found.samples.len() <= 1 << 20);
            }
        }
    }

    #[test]
    fn a_small_table_cannot_claim_billions_of_pictures() {
        // One size for four billion pictures, one duration, one chunk.
        let many = [
            boxed(b"stts", 0, &[1, u32::MAX, 1]),
            boxed(b"stsc", 0, &[1, 1, u32::MAX, 1]),
            boxed(b"stsz", 0, &[1, u32::MAX]),
            boxed(b"stco", 0, &[1, 0]),
        ];
        assert!(SampleTable::read(&many.concat(), 1000).is_err());
        let few = [boxed(b"stsz", 0, &[1, 7]), many[0].clone(), many[1].clone(), many[3].clone()].concat();
        assert_eq!(SampleTable::read(&few, 1000).unwrap().samples.len(), 7);
    }

    #[test]
    fn compact_sizes_are_read() {
        let mut bytes = stbl(0, &[0, 0, 0]);
        let at = bytes.windows(4).position(|w| w == b"stsz").unwrap();
        let len = u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
        bytes.splice(at - 4..at - 4 + len, [boxed(b"stz2", 0, &[4, 3, 0x5670_0000])].concat());
        let sizes: Vec<u64> = SampleTable::read(&bytes, 1 << 20).unwrap().samples.iter().map(|s| s.size).collect();
        assert_eq!(sizes, [5, 6, 7]);
    }
}
