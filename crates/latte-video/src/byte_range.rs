//! The byte range of a video: a whole file or a part of an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::media_location::MediaLocation;
use crate::{Error, Result};

/// The location of the bytes of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The file that holds them.
    pub(crate) file: PathBuf,
    /// Offset and length in bytes; `None` for the whole file.
    pub(crate) range: Option<(u64, u64)>,
    /// The name of the video in messages: the path of the file, or the path of the archive followed by the name inside it.
    pub(crate) path: PathBuf,
}

impl ByteRange {
    /// The whole of a file.
    pub(crate) fn whole(path: &Path) -> Self {
        Self { file: path.to_path_buf(), range: None, path: path.to_path_buf() }
    }

    /// The bytes of the video at `place`, which must not be a folder.
    pub(crate) fn of(place: &MediaLocation) -> Self {
        let range = match place {
            MediaLocation::Path(_) => None,
            MediaLocation::Archived { offset, length, .. } => Some((*offset, *length)),
        };
        Self { file: place.path().to_path_buf(), range, path: place.shown() }
    }

    /// Opens it for reading; positions are relative to its start.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or has become too short.
    pub(crate) fn open(&self) -> Result<Window<File>> {
        let file = File::open(&self.file).map_err(|e| Error::io(&self.file, e))?;
        let file_len = file.metadata().map_err(|e| Error::io(&self.file, e))?.len();
        let (start, len) = self.range.unwrap_or((0, file_len));
        if start.checked_add(len).is_none_or(|end| end > file_len) {
            let what = format!(
                "{len} bytes from byte {start} on should be the video, but {} has {file_len} bytes: it has changed since the \
                 data set was listed; list it again",
                self.file.display()
            );
            return Err(Error::damaged(&self.path, what));
        }
        Window::new(file, start, len).map_err(|e| Error::io(&self.file, e))
    }
}

/// A byte range of a reader, presented as a separate file.
#[derive(Debug)]
pub(crate) struct Window<R> {
    inner: R,
    start: u64,
    len: u64,
    /// Relative to `start`; may be beyond the end, where reads return nothing.
    position: u64,
}

impl<R: Read + Seek> Window<R> {
    /// `len` bytes of `inner` from `start` on; `start + len` must not overflow.
    pub(crate) fn new(mut inner: R, start: u64, len: u64) -> io::Result<Self> {
        inner.seek(SeekFrom::Start(start))?;
        Ok(Self { inner, start, len, position: 0 })
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..room])?;
        self.position += n as u64;
        Ok(n)
    }
}

impl<R: Seek> Seek for Window<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        let target = position.and_then(|p| Some((p, self.start.checked_add(p)?)));
        let (position, at) = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the start"))?;
        self.inner.seek(SeekFrom::Start(at))?;
        self.position = position;
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_changed_archive_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, [0; 100]).unwrap();
        let open = |offset, length| {
            ByteRange::of(&MediaLocation::Archived { archive: path.clone(), offset, length, name: "x.mp4".into() }).open()
        };
        let mut window = open(90, 10).unwrap();
        assert_eq!(window.read_to_end(&mut Vec::new()).unwrap(), 10);
        let said = open(90, 11).unwrap_err().to_string();
        assert!(said.contains("a.tar/x.mp4") && said.contains("100 bytes") && said.contains("changed"), "{said}");
        assert!(open(2, u64::MAX).is_err());
    }

    proptest! {
        /// For any operations, a window behaves like a file with its bytes.
        #[test]
        fn a_window_is_a_file_of_its_own(
            start in 0_usize..40, len in 0_usize..40, steps in prop::collection::vec((0_u8..4, -50_i64..50, 0_usize..50), 0..20)
        ) {
            let bytes: Vec<u8> = (0..80).collect();
            let mut window = Window::new(Cursor::new(&bytes), start as u64, len as u64).unwrap();
            let mut alone = Cursor::new(&bytes[start..start + len]);
            for (kind, by, count) in steps {
                let to = match kind {
                    0 => SeekFrom::Start(by.unsigned_abs()),
                    1 => SeekFrom::Current(by),
                    2 => SeekFrom::End(by),
                    _ => SeekFrom::Current(0),
                };
                prop_assert_eq!(window.seek(to).ok(), alone.seek(to).ok());
                let (mut a, mut b) = (vec![0; count], vec![0; count]);
                prop_assert_eq!(window.read(&mut a).unwrap(), alone.read(&mut b).unwrap());
                prop_assert_eq!(a, b);
            }
        }
    }
}
