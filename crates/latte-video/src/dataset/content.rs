//! The hash of a video's content.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::MediaLocation;
use crate::byte_range::ByteRange;
use crate::{Error, Result, frame_folder};

impl MediaLocation {
    /// SHA-256 of the bytes of the video file, or of all frames of a folder in order, in hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If the file or a frame cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let files = match self {
            Self::Path(path) if path.is_dir() => frame_folder::list(path)?.iter().map(|file| ByteRange::whole(file)).collect(),
            _ => vec![ByteRange::of(self)],
        };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        for file in &files {
            let mut reader = file.open()?;
            loop {
                let read = reader.read(&mut buffer).map_err(|e| Error::io(&file.path, e))?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
            }
        }
        Ok(format!("{:x}", hasher.finalize()))
    }
}
