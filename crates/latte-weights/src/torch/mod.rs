//! PyTorch files (`.pt`, `.pth`, `.bin`, `.ckpt`), read without running any code in them.
//!
//! Such a file is a *container* with a *pickle*, a program for a small stack machine that describes objects, and *storages*, raw
//! values that the pickle's tensors point into. Three containers are supported: a zip archive (since PyTorch 1.6), its predecessor
//! with pickles one after the other, and the zip archive of a TorchScript module.
//!
//! The machine here ([`pickle`]) builds a description only. It calls nothing: the few functions that PyTorch's own files name have
//! a fixed meaning ([`globals`]), and any other name is an error. The size of the file bounds work and memory, so that a hostile
//! file fails like a damaged one.

mod archive;
mod globals;
mod legacy;
mod object;
mod pickle;
mod plain;
mod walk;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

pub(crate) use write::write_torch;

use super::stored::Layout;

/// The result of parsing; the error says why the file cannot be read.
pub(crate) type Parsed<T> = Result<T, String>;

/// Raw values that tensors point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// A part of the file.
    InFile(Range<usize>),
    /// Values that were compressed in the file.
    Inflated(Vec<u8>),
}

impl Storage {
    /// The values; `file` is the file's content.
    pub(crate) fn bytes<'s>(&'s self, file: &'s [u8]) -> &'s [u8] {
        match self {
            Self::InFile(range) => file.get(range.clone()).unwrap_or_default(),
            Self::Inflated(bytes) => bytes,
        }
    }
}

/// The content of a file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Tensors by name, each with its index in `storages`. Nested dictionaries give names with dots.
    pub(crate) tensors: BTreeMap<String, (Layout, usize)>,
    /// The storages of the tensors.
    pub(crate) storages: Vec<Storage>,
    /// Values beside the tensors under the keys that this program writes ([`plain::KEYS`]).
    pub(crate) values: BTreeMap<String, Value>,
}

/// Whether `file` begins as a PyTorch file.
pub(crate) fn looks_like_torch(file: &[u8]) -> bool {
    archive::is_zip(file) || legacy::is_legacy(file)
}

/// Reads a PyTorch file.
///
/// # Errors
///
/// If it is not a PyTorch file, is damaged, or holds anything but tensors in plain containers; the message says why.
pub(crate) fn read(file: &[u8]) -> Parsed<Contents> {
    if archive::is_zip(file) {
        return archive::read(file);
    }
    if legacy::is_legacy(file) {
        return legacy::read(file);
    }
    Err("is not a PyTorch file: expected a zip archive or a pickle with PyTorch's number in front".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/weights").join(name);
        std::fs::read(path).unwrap()
    }

    /// Reads every tensor of `file`, so that damage in any of them is found.
    fn read_all(file: &[u8]) -> Parsed<usize> {
        let contents = read(file)?;
        for (layout, storage) in contents.tensors.values() {
            let _ = layout.gather(contents.storages[*storage].bytes(file))?;
        }
        Ok(contents.tensors.len())
    }

    const EXAMPLES: [&str; 10] = [
        "everything.pt",
        "everything_legacy.pt",
        "everything_protocol4.pt",
        "nested.pt",
        "nested_legacy.pt",
        "new_dtypes.pt",
        "module.pt",
        "scripted.pt",
        "traced.pt",
        "deflated.pt",
    ];

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for name in EXAMPLES {
            let file = example(name);
            assert!(read_all(&file).is_ok(), "{name}: {:?}", read_all(&file));
            for len in 0..file.len() {
                assert!(read_all(&file[..len]).is_err(), "{name} cut to {len} of {} bytes", file.len());
            }
        }
    }

    #[test]
    fn no_changed_byte_makes_it_panic() {
        for name in EXAMPLES {
            let file = example(name);
            for at in 0..file.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = file.clone();
                    changed[at] ^= change;
                    let _ = read_all(&changed);
                }
            }
        }
    }

    #[test]
    fn code_is_named_and_not_run() {
        for name in ["danger.pt", "danger_legacy.pt"] {
            let message = read(&example(name)).unwrap_err();
            assert!(message.contains("posix.system") || message.contains("os.system"), "{message}");
        }
        assert!(!std::path::Path::new("/tmp/latte-was-here").exists());
    }
}
