//! Finds the locations of the files in a tar archive. Reads headers only; seeks over contents.
//!
//! Supports POSIX archives (ustar and pax) and GNU's long names and large sizes. Memory stays bounded for any archive: nothing
//! longer than [`MAX_LENGTH`] is loaded.

use std::io::{BufReader, ErrorKind, Read, Seek};

/// The block size of tar archives, in bytes.
const BLOCK: u64 = 512;

/// Maximum length of extended headers (with long names, for example) and of members whose contents are read.
const MAX_LENGTH: u64 = 4 << 20;

/// The error is a message.
type Result<T> = std::result::Result<T, String>;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Offset of its contents from the start of the archive, in bytes.
    pub(super) offset: u64,
    /// Length of its contents, in bytes.
    pub(super) length: u64,
}

/// The type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symbolic or a hard link.
    Link,
    /// A device, a queue, or an unknown type.
    Other,
}

/// Iterates over the members of an archive.
pub(super) struct Members<R> {
    reader: BufReader<R>,
    len: u64,
    position: u64,
    /// Offset of the next header.
    next: u64,
    is_closed: bool,
}

/// The contents of extended headers, which apply to the member that follows.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<R: Read + Seek> Members<R> {
    /// Reads an archive of `len` bytes; `reader` must be at its start.
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self { reader: BufReader::new(reader), len, position: 0, next: 0, is_closed: false }
    }

    /// The next member; `None` at the end. After an error, no further member can be found.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extension = Extension::default();
        while self.next < self.len {
            let at = self.next;
            let mut block = [0; BLOCK as usize];
            self.read_at(at, &mut block).map_err(|e| format!("the header at byte {at}: {e}"))?;
            if block.iter().all(|&b| b == 0) {
                self.is_closed = true;
                return Ok(None);
            }
            check_sum(&block).map_err(|e| format!("the header at byte {at}: {e}"))?;
            let kind = block[156];
            let own_size = number(&block[124..136]).map_err(|e| format!("the header at byte {at}: its size is {e}"))?;
            let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
            // Links, folders and devices have no contents, whatever size the header has.
            let has_contents = !matches!(kind, b'1'..=b'6');
            let length = match extension.size {
                _ if !has_contents => 0,
                Some(size) if !is_extension => size,
                _ => own_size,
            };
            let offset = at + BLOCK;
            let name = || extension.name.clone().unwrap_or_else(|| name(&block));
            let end = offset.checked_add(length).filter(|&end| end <= self.len).ok_or_else(|| {
                format!(
                    "`{}` should have {length} bytes from byte {offset} on, but the archive ends at byte {}",
                    name(),
                    self.len
                )
            })?;
            self.next = end.next_multiple_of(BLOCK);
            if is_extension {
                if length > MAX_LENGTH {
                    return Err(format!("the extended header at byte {at} is {length} bytes long, more than any name needs"));
                }
                let mut body = vec![0; length as usize];
                self.read_at(offset, &mut body).map_err(|e| format!("the extended header at byte {at}: {e}"))?;
                match kind {
                    b'x' => pax(&body, &mut extension).map_err(|e| format!("the extended header at byte {at}: {e}"))?,
                    b'L' => extension.name = Some(text(&body)),
                    // Headers for the whole archive and link targets are not needed.
                    _ => {}
                }
                continue;
            }
            if kind == b'S' || extension.is_sparse {
                return Err(format!("`{}` is stored with holes (sparse); write the archive again without that", name()));
            }
            let kind = match kind {
                // Old archives store a folder as a file whose name ends with a slash.
                0 | b'0' | b'7' if name().ends_with('/') => Kind::Folder,
                0 | b'0' | b'7' => Kind::File,
                b'1' | b'2' => Kind::Link,
                b'5' => Kind::Folder,
                _ => Kind::Other,
            };
            return Ok(Some(Member { name: name(), kind, offset, length }));
        }
        Ok(None)
    }

    /// Whether the end-of-archive mark was found: without it, the archive may be cut off.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The contents of a member of at most [`MAX_LENGTH`] bytes.
    pub(super) fn contents(&mut self, member: &Member) -> Result<Vec<u8>> {
        if member.length > MAX_LENGTH {
            return Err(format!("{} bytes long; read are at most {MAX_LENGTH}", member.length));
        }
        let mut contents = vec![0; member.length as usize];
        self.read_at(member.offset, &mut contents)?;
        Ok(contents)
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        // A relative seek keeps the contents of the buffer.
        self.reader.seek_relative(at.wrapping_sub(self.position) as i64).map_err(|e| e.to_string())?;
        self.position = at;
        self.reader.read_exact(out).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => "the archive ends within it".to_string(),
            _ => e.to_string(),
        })?;
        self.position += out.len() as u64;
        Ok(())
    }
}

/// Verifies the checksum of a header, which counts its own field as spaces; some old programs summed signed bytes.
fn check_sum(block: &[u8]) -> Result<()> {
    let stored = number(&block[148..156]).map_err(|e| format!("its checksum is {e}; is this a tar archive?"))?;
    let bytes = || block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { b' ' } else { b });
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    if stored == unsigned || i64::try_from(stored) == Ok(signed) {
        Ok(())
    } else {
        Err(format!("its checksum is {stored}, its bytes add up to {unsigned}; is this a tar archive?"))
    }
}

/// A number in octal digits or, in GNU archives, in binary with the first bit set.
fn number(field: &[u8]) -> Result<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7F);
        return field[1..]
            .iter()
            .try_fold(first, |n, &b| if n >> 56 == 0 { Some(n << 8 | u64::from(b)) } else { None })
            .ok_or_else(|| "not possible".to_string());
    }
    let digits = field.split(|&b| b == 0).next().unwrap_or_default().trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|t| u64::from_str_radix(t, 8).ok()).ok_or_else(|| "no octal number".to_string())
}

/// The name in the header itself.
fn name(block: &[u8]) -> String {
    let name = text(&block[..100]);
    // Only POSIX archives have the prefix of a long name here; GNU archives have times here.
    let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
}

/// Parses the records of an extended header: `length key=value` and a line break, where the length includes everything.
fn pax(mut body: &[u8], extension: &mut Extension) -> Result<()> {
    while body.first().is_some_and(|&b| b != 0) {
        let bad = || format!("no record `length key=value` at `{}`", String::from_utf8_lossy(&body[..body.len().min(20)]));
        let space = body.iter().take(20).position(|&b| b == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&body[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        let record = body.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.name = Some(String::from_utf8_lossy(value).into_owned()),
            b"size" => {
                extension.size = Some(std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => extension.is_sparse = true,
            _ => {}
        }
        body = &body[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::tar::{Builder, EntryType, Header};
    use proptest::prelude::*;

    use super::*;

    fn members(bytes: &[u8]) -> (Vec<Member>, Result<bool>) {
        let mut members = Members::new(Cursor::new(bytes), bytes.len() as u64);
        let mut found = Vec::new();
        loop {
            match members.next() {
                Ok(Some(member)) => {
                    // The contents of a short member are always readable.
                    assert!(members.contents(&member).is_ok() || member.length > MAX_LENGTH);
                    found.push(member);
                }
                Ok(None) => return (found, Ok(members.is_closed())),
                Err(e) => return (found, Err(e)),
            }
        }
    }

    fn append(builder: &mut Builder<Vec<u8>>, mut header: Header, name: &str, contents: &[u8]) {
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, contents).unwrap();
    }

    /// An archive of files with these names; each one's contents are its name.
    fn archive(names: &[String], header: fn() -> Header) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for name in names {
            append(&mut builder, header(), name, name.as_bytes());
        }
        builder.into_inner().unwrap()
    }

    fn some_names() -> Vec<String> {
        let deep = format!("{}/clip.mp4", "folder/".repeat(20).trim_end_matches('/'));
        vec!["a.mp4".into(), "a.txt".into(), deep, format!("{}.mp4", "long".repeat(60)), "größe/ü.json".into(), "z".into()]
    }

    #[test]
    fn finds_all_members() {
        let names = some_names();
        for header in [Header::new_gnu as fn() -> Header, Header::new_ustar, Header::new_old] {
            let bytes = archive(&names, header);
            let (found, end) = members(&bytes);
            assert_eq!(end, Ok(true));
            assert_eq!(found.iter().map(|m| m.name.clone()).collect::<Vec<_>>(), names);
            for member in &found {
                let contents = &bytes[member.offset as usize..][..member.length as usize];
                assert_eq!(contents, member.name.as_bytes());
                assert_eq!(member.kind, Kind::File);
            }
        }
    }

    #[test]
    fn reads_pax_names_and_sizes() {
        let long = format!("{}/clip.mp4", "x".repeat(300));
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([("path", long.as_bytes()), ("size", b"5".as_slice()), ("mtime", b"1.5")]).unwrap();
        // The header has another name and size.
        append(&mut builder, Header::new_ustar(), "short", b"12345");
        append(&mut builder, Header::new_ustar(), "after", b"1");
        let mut bytes = builder.into_inner().unwrap();
        let header_at = bytes.windows(5).position(|w| w == b"short").unwrap();
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&bytes[header_at..header_at + 512]);
        header.set_size(0);
        header.set_cksum();
        bytes[header_at..header_at + 512].copy_from_slice(header.as_bytes());
        let (found, end) = members(&bytes);
        assert_eq!(end, Ok(true));
        let seen: Vec<(&str, u64)> = found.iter().map(|m| (m.name.as_str(), m.length)).collect();
        assert_eq!(seen, [(long.as_str(), 5), ("after", 1)]);
    }

    #[test]
    fn folders_and_links_are_not_files() {
        let mut builder = Builder::new(Vec::new());
        for (kind, name) in [
            (EntryType::Directory, "d/"),
            (EntryType::Symlink, "s"),
            (EntryType::Link, "h"),
            (EntryType::Fifo, "f"),
            (EntryType::Regular, "file"),
            (EntryType::Continuous, "contiguous"),
        ] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_link_name("file").unwrap();
            }
            append(&mut builder, header, name, b"");
        }
        let (found, end) = members(&builder.into_inner().unwrap());
        assert_eq!(end, Ok(true));
        let kinds: Vec<Kind> = found.iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Kind::Folder, Kind::Link, Kind::Link, Kind::Other, Kind::File, Kind::File]);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let header = |size: &dyn Fn(&mut Header)| {
            let mut header = Header::new_gnu();
            header.set_path("a.mp4").unwrap();
            size(&mut header);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        for (bytes, expected) in [
            (header(&|h| h.set_size(u64::MAX)), "but the archive ends at byte 512"),
            (header(&|h| h.set_size(1)), "`a.mp4` should have 1 bytes from byte 512 on"),
            (header(&|h| h.as_gnu_mut().unwrap().size = [0xFF; 12]), "its size is not possible"),
            (header(&|h| h.as_gnu_mut().unwrap().size = *b"12x456789012"), "its size is no octal number"),
            (vec![1; 512], "is this a tar archive?"),
            (vec![1; 100], "the archive ends within it"),
        ] {
            let (found, end) = members(&bytes);
            assert!(found.is_empty());
            let said = end.unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
        // A complete name of five megabytes.
        let mut long = header(&|h| {
            h.set_entry_type(EntryType::GNULongName);
            h.set_size(5 << 20);
        });
        long.resize(512 + (5 << 20), b'a');
        let said = members(&long).1.unwrap_err();
        assert!(said.contains("more than any name needs"), "{said}");
    }

    proptest! {
        /// Damage leads to an error or to members within the archive.
        #[test]
        fn damage_never_panics(
            kind in 0_usize..3, places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<prop::sample::Index>(), is_cut: bool, mend: bool,
        ) {
            let header = [Header::new_gnu as fn() -> Header, Header::new_ustar, Header::new_old][kind];
            let mut bytes = archive(&some_names(), header);
            for (place, value) in places {
                let at = place.index(bytes.len());
                bytes[at] = value;
                // Without a correct checksum, most damage would never reach the rest of the reader.
                let block = at / 512 * 512;
                if mend && at - block < 500 {
                    let mut header = Header::new_old();
                    header.as_mut_bytes().copy_from_slice(&bytes[block..block + 512]);
                    header.set_cksum();
                    bytes[block..block + 512].copy_from_slice(header.as_bytes());
                }
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let (found, _) = members(&bytes);
            for member in found {
                prop_assert!(member.offset + member.length <= bytes.len() as u64);
            }
        }

        #[test]
        fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), mend: bool) {
            if mend && bytes.len() >= 512 {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..512]);
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            let (found, _) = members(&bytes);
            prop_assert!(found.len() <= 6);
        }
    }
}
