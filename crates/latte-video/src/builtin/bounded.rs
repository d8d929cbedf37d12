//! Stops a demuxer that would read a damaged file forever.

use std::io::{self, Read, Seek, SeekFrom};

/// A reader of a file of known length that returns an error after far more bytes than the file has: its elements then point to each
/// other in a cycle.
pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// How often each byte of a sound file may be read, in addition to a fixed allowance for small files.
    const TIMES: u64 = 4;
    const BESIDES: u64 = 64 << 10;

    pub(super) fn new(inner: R, len: u64) -> Self {
        Self { inner, left: len.saturating_mul(Self::TIMES).saturating_add(Self::BESIDES) }
    }

    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.max(1)).ok_or_else(|| io::Error::other("its elements form a cycle"))?;
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.spend(n as u64)?;
        Ok(n)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.spend(1)?;
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn endless_reading_is_an_error_and_reading_a_file_a_few_times_is_not() {
        let file = vec![7; 1 << 20];
        let mut bounded = Bounded::new(Cursor::new(&file), file.len() as u64);
        for _ in 0..4 {
            bounded.seek(SeekFrom::Start(0)).unwrap();
            assert_eq!(bounded.read_to_end(&mut Vec::new()).unwrap(), file.len());
        }
        let said = loop {
            match bounded.seek(SeekFrom::Start(9)).and_then(|_| bounded.read(&mut [0; 100])) {
                Ok(n) => assert_eq!(n, 100),
                Err(e) => break e.to_string(),
            }
        };
        assert!(said.contains("form a cycle"), "{said}");
        // Also if nothing is read at all.
        let mut empty = Bounded::new(Cursor::new([]), 0);
        assert!((0..1_000_000).any(|_| empty.seek(SeekFrom::Start(0)).is_err()));
    }
}
