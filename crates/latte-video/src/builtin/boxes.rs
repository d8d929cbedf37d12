//! Boxes of mp4 files (ISO/IEC 14496-12, 4.2): nesting and fields.

use std::io::{self, Read, Seek, SeekFrom};

/// Maximum size of all index boxes together in bytes; the index of a whole film is far below it.
const MAX_INDEX: u64 = 256 << 20;
/// Maximum number of top-level boxes; a day in fragments of one second has a sixth of it.
const MAX_TOP_LEVEL: usize = 1 << 20;

/// Reads consecutive big-endian fields. `None` at the end of the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (these, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(these)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A field of 32 bits in version 0 of a box and of 64 bits in version 1.
    pub(super) fn by_version(&mut self, version: u8) -> Option<u64> {
        if version == 0 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// The version and the flags at the start of most boxes.
    pub(super) fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0x00FF_FFFF))
    }
}

/// The consecutive boxes in `bytes`, as name and contents. Stops at the first that does not fit.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut fields = Fields(rest);
        let (size, name) = (fields.u32()?, fields.take(4)?.first_chunk()?);
        let (size, header) = match size {
            0 => (rest.len(), 8),
            1 => (usize::try_from(fields.u64()?).ok()?, 16),
            size => (size as usize, 8),
        };
        let (this, after) = rest.split_at_checked(size)?;
        rest = after;
        Some((name, this.get(header..)?))
    })
}

/// The contents of the first box called `name` in `bytes`.
pub(super) fn child<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found.as_slice() == name).map(|(_, body)| body)
}

/// The contents of a box inside of boxes.
pub(super) fn descendant<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |body, name| child(body, *name))
}

/// The boxes that describe the pictures of a file.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The contents of `moov`.
    pub(super) moov: Vec<u8>,
    /// Each `moof` as the offset of the box and its contents.
    pub(super) fragments: Vec<(u64, Vec<u8>)>,
}

impl Index {
    /// Reads the index of a file of `len` bytes. The outer error comes from the system, the inner one describes damage.
    pub(super) fn read(file: &mut (impl Read + Seek), len: u64) -> io::Result<Result<Self, String>> {
        let (mut index, mut has_moov) = (Self::default(), false);
        let (mut at, mut room) = (0_u64, MAX_INDEX);
        for _ in 0..MAX_TOP_LEVEL {
            // A few bytes of garbage after the last box are harmless.
            if len.saturating_sub(at) < 8 {
                let missing = "its index (a `moov` box) is missing: it is cut off, or was never finished";
                return Ok(if has_moov { Ok(index) } else { Err(missing.into()) });
            }
            file.seek(SeekFrom::Start(at))?;
            let mut head = [0; 16];
            let available = usize::try_from(len - at).unwrap_or(usize::MAX).min(16);
            file.read_exact(&mut head[..available])?;
            let mut fields = Fields(&head[..available]);
            let (Some(size), Some(name)) = (fields.u32(), fields.take(4)) else { break };
            let (size, header) = match size {
                0 => (len - at, 8),
                1 => (fields.u64().unwrap_or(0), 16),
                size => (u64::from(size), 8),
            };
            if size < header {
                return Ok(Err(format!("the box at byte {at} says that it has {size} bytes")));
            }
            let is_index = name == b"moov" || name == b"moof";
            if size > len - at {
                // If the picture data is cut off, the pictures before the cut can be read.
                if name == b"mdat" && has_moov {
                    return Ok(Ok(index));
                }
                let name = String::from_utf8_lossy(name).escape_default().to_string();
                return Ok(Err(format!("the box `{name}` at byte {at} has {size} bytes, the file has {len}")));
            }
            if is_index {
                if size > room {
                    return Ok(Err(format!("its index has more than {MAX_INDEX} bytes")));
                }
                room -= size;
                let mut body = vec![0; usize::try_from(size - header).unwrap_or_default()];
                file.seek(SeekFrom::Start(at + header))?;
                file.read_exact(&mut body)?;
                if name == b"moof" {
                    index.fragments.push((at, body));
                } else if !has_moov {
                    (index.moov, has_moov) = (body, true);
                }
            }
            at += size;
        }
        Ok(Err(format!("it has more than {MAX_TOP_LEVEL} boxes")))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Index, boxes, child};

    fn boxed(name: &[u8], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), name, body].concat()
    }

    #[test]
    fn boxes_of_all_three_kinds_of_size_are_read() {
        let mut bytes = boxed(b"abcd", b"12");
        bytes.extend([&1_u32.to_be_bytes(), b"long".as_slice(), &18_u64.to_be_bytes(), b"34"].concat());
        bytes.extend([&0_u32.to_be_bytes(), b"rest".as_slice(), b"567"].concat());
        let found: Vec<_> = boxes(&bytes).collect();
        assert_eq!(found, [(b"abcd", b"12".as_slice()), (b"long", b"34"), (b"rest", b"567")]);
        assert_eq!(child(&bytes, b"long"), Some(b"34".as_slice()));
        // One box that reaches beyond the end, and one that is shorter than its own header.
        assert_eq!(boxes(&boxed(b"abcd", b"12")[..9]).count(), 0);
        assert_eq!(boxes(&[0, 0, 0, 3, 1, 2, 3, 4]).count(), 0);
    }

    #[test]
    fn a_cut_off_index_is_damage_and_cut_off_pictures_are_not() {
        let read = |bytes: &[u8]| Index::read(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        let (moov, mdat) = (boxed(b"moov", b"index"), boxed(b"mdat", &[7; 40]));
        let front = [moov.as_slice(), &mdat].concat();
        let back = [mdat.as_slice(), &moov].concat();
        for whole in [&front, &back] {
            assert_eq!(read(whole).unwrap().moov, b"index");
        }
        assert_eq!(read(&front[..30]).unwrap().moov, b"index");
        assert!(read(&back[..30]).unwrap_err().contains("mdat"));
        assert!(read(&back[..back.len() - 1]).unwrap_err().contains("moov"));
        assert!(read(&mdat).unwrap_err().contains("missing"));
        assert!(read(&[0, 0, 0, 7, b'f', b'r', b'e', b'e']).is_err());
    }
}
