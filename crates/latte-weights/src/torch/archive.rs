//! PyTorch's zip archives: `<name>/data.pkl` with the pickle, `<name>/data/<key>` with the storages, uncompressed. A TorchScript
//! module also has `<name>/code/…` and `<name>/constants.pkl`. Archives of NumPy arrays (`.npz`) are read here too.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::super::numpy;
use super::super::stored::StoredDtype;
use super::object::StorageMark;
use super::{Contents, Parsed, Storage, pickle, plain, walk};

/// The largest total size of compressed entries once unpacked. PyTorch compresses nothing; only repacked files have compressed
/// entries.
const MAX_INFLATED_BYTES: usize = 256 << 20;
/// The largest compression ratio of an entry; weights hardly compress.
const MAX_RATIO: u64 = 200;

/// The ending of the names of NumPy arrays in an archive.
const ARRAY: &str = ".npy";

/// Whether `file` begins as a zip archive.
pub(super) fn is_zip(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06")
}

/// An entry: the range of its bytes, and its size once unpacked.
#[derive(Debug, Clone)]
struct Entry {
    index: usize,
    range: Range<usize>,
    stored: bool,
    len: u64,
}

struct Archive<'a> {
    file: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    entries: BTreeMap<String, Entry>,
    inflated: usize,
}

/// Reads an archive.
///
/// # Errors
///
/// If it is not a PyTorch archive, or damaged.
pub(super) fn read(file: &[u8]) -> Parsed<Contents> {
    let mut archive = Archive::open(file)?;
    let root = match archive.root() {
        Err(_) if archive.entries.keys().any(|name| name.ends_with(ARRAY)) => return archive.arrays(),
        root => root?,
    };
    let entry = |name: &str| format!("{root}{name}");
    if let Some(order) = archive.get(&entry("byteorder")) {
        let order = archive.bytes(&order)?;
        if order.of(file) != b"little" {
            return Err("holds values in big-endian order, which is not known; save it again on another machine".into());
        }
    }
    let constants = entry("constants.pkl");
    let torch_script = archive.entries.contains_key(&constants) || archive.has_folder(&entry("code/"));
    let mut contents = Contents::default();
    archive.collect(&entry("data.pkl"), &entry("data/"), "", torch_script, &mut contents)?;
    if archive.entries.contains_key(&constants) {
        archive.collect(&constants, &entry("constants/"), "constants", torch_script, &mut contents)?;
    }
    Ok(contents)
}

/// An entry's bytes.
enum Bytes {
    InFile(Range<usize>),
    Inflated(Vec<u8>),
}

impl Bytes {
    fn of<'b>(&'b self, file: &'b [u8]) -> &'b [u8] {
        match self {
            Self::InFile(range) => file.get(range.clone()).unwrap_or_default(),
            Self::Inflated(bytes) => bytes,
        }
    }
}

impl<'a> Archive<'a> {
    fn open(file: &'a [u8]) -> Parsed<Self> {
        let damaged = |e: zip::result::ZipError| format!("is a damaged zip archive, or cut short ({e}); copy or load it again");
        let mut zip = ZipArchive::new(Cursor::new(file)).map_err(damaged)?;
        let mut entries = BTreeMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
            let range = start.zip(usize::try_from(entry.compressed_size()).ok()).and_then(|(start, len)| {
                let end = start.checked_add(len)?;
                (end <= file.len()).then_some(start..end)
            });
            let Some(range) = range else {
                return Err(format!("is a damaged zip archive: its entry `{name}` lies outside of the file"));
            };
            if entry.encrypted() {
                return Err(format!("is a zip archive with the encrypted entry `{name}`"));
            }
            let stored = match entry.compression() {
                CompressionMethod::Stored => true,
                CompressionMethod::Deflated => false,
                other => return Err(format!("is a zip archive whose entry `{name}` is compressed by {other}")),
            };
            if stored && entry.size() != range.len() as u64 {
                return Err(format!("is a damaged zip archive: its entry `{name}` has two lengths"));
            }
            entries.insert(name, Entry { index, range, stored, len: entry.size() });
        }
        Ok(Self { file, zip, entries, inflated: 0 })
    }

    /// The prefix of the archive's names: everything up to the shortest `…data.pkl`.
    fn root(&self) -> Parsed<String> {
        let roots = self.entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let root = roots.filter(|root| root.is_empty() || root.ends_with('/')).min_by_key(|root| root.len());
        root.map(ToString::to_string).ok_or_else(|| {
            let is_weights =
                |name: &&String| [".safetensors", ".pt", ".pth", ".bin", ".ckpt"].iter().any(|end| name.ends_with(end));
            if let Some(weights) = self.entries.keys().find(is_weights) {
                return format!("is a zip archive with `{weights}` in it; unpack it first");
            }
            "is a zip archive, but not one that PyTorch reads: it has no `data.pkl` \
             (TorchScript older than 1.4 and `.pt2` exports are not known; save a state_dict)"
                .into()
        })
    }

    fn has_folder(&self, name: &str) -> bool {
        self.entries.range(name.to_string()..).next().is_some_and(|(first, _)| first.starts_with(name))
    }

    fn get(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).cloned()
    }

    /// The bytes of an entry.
    fn bytes(&mut self, entry: &Entry) -> Parsed<Bytes> {
        if entry.stored {
            return Ok(Bytes::InFile(entry.range.clone()));
        }
        let most = MAX_RATIO.saturating_mul(entry.range.len() as u64).min((MAX_INFLATED_BYTES - self.inflated) as u64);
        if entry.len > most {
            return Err(format!("unpacks {} bytes to {}: more than is reasonable for weights", entry.range.len(), entry.len));
        }
        let mut bytes = Vec::new();
        let packed = self.zip.by_index(entry.index).map_err(|e| format!("cannot be unpacked: {e}"))?;
        packed.take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be unpacked: {e}"))?;
        if bytes.len() as u64 != entry.len {
            return Err("is a damaged zip archive: an entry unpacks to another length than it says".into());
        }
        self.inflated += bytes.len();
        Ok(Bytes::Inflated(bytes))
    }

    /// The NumPy arrays in it, under their names.
    fn arrays(mut self) -> Parsed<Contents> {
        let mut contents = Contents::default();
        let file = self.file;
        for (name, entry) in self.entries.clone() {
            let Some(array) = name.strip_suffix(ARRAY) else { continue };
            let bytes = self.bytes(&entry)?;
            let (start, layout) = numpy::read(bytes.of(file)).map_err(|what| format!("has the entry `{name}`, which {what}"))?;
            contents.storages.push(match bytes {
                Bytes::InFile(range) => Storage::InFile(range.start + start..range.end),
                Bytes::Inflated(mut bytes) => Storage::Inflated(bytes.split_off(start)),
            });
            contents.tensors.insert(array.to_string(), (layout, contents.storages.len() - 1));
        }
        Ok(contents)
    }

    /// Adds the tensors that the pickle `name` describes, with their storages in `folder`.
    fn collect(&mut self, name: &str, folder: &str, prefix: &str, torch_script: bool, contents: &mut Contents) -> Parsed<()> {
        let entry = self.get(name).ok_or_else(|| format!("has no entry `{name}`"))?;
        let bytes = self.bytes(&entry)?;
        let file = self.file;
        let pickle = pickle::parse(bytes.of(file), torch_script)?;
        contents.values.extend(plain::beside_tensors(&pickle));
        walk::collect(&pickle, prefix, contents, &mut |mark| self.storage(mark, folder))
    }

    fn storage(&mut self, mark: &StorageMark<'_>, folder: &str) -> Parsed<(Storage, usize)> {
        let name = format!("{folder}{}", mark.key);
        let entry = self.get(&name).ok_or_else(|| format!("has no entry `{name}`, where values should be"))?;
        let size = mark.dtype.map_or(1, StoredDtype::size);
        let needed = mark.len.checked_mul(size).filter(|&bytes| bytes as u64 <= entry.len);
        let Some(needed) = needed else {
            return Err(format!("should have {} values in its entry `{name}`, which has {} bytes", mark.len, entry.len));
        };
        if mark.part.is_some() {
            return Err("has a view of a storage, which only files of another kind have".into());
        }
        Ok(match self.bytes(&entry)? {
            Bytes::InFile(range) => (Storage::InFile(range.start..range.start + needed), needed),
            Bytes::Inflated(mut bytes) => {
                bytes.truncate(needed);
                (Storage::Inflated(bytes), needed)
            }
        })
    }
}
