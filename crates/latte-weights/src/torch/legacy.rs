//! PyTorch files from before 1.6 (and with `_use_new_zipfile_serialization=False`): pickles of a magic number, a version, the
//! machine, the object and the storages' keys, one after the other; then each storage, with its length in front.

use std::collections::BTreeMap;

use super::super::stored::StoredDtype;
use super::object::{Object, Pickle, StorageMark};
use super::{Contents, Parsed, Storage, pickle, plain, walk};

/// The pickle of PyTorch's magic number, without its protocol.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const VERSION: i128 = 1001;

/// Whether `file` begins as such a file.
pub(super) fn is_legacy(file: &[u8]) -> bool {
    file.len() > 2 && file[0] == 0x80 && file[2..].starts_with(MAGIC)
}

/// Reads such a file.
///
/// # Errors
///
/// If it is damaged.
pub(super) fn read(file: &[u8]) -> Parsed<Contents> {
    let mut at = 2 + MAGIC.len();
    let mut next = || -> Parsed<Pickle<'_>> {
        let found = pickle::parse(file.get(at..).unwrap_or_default(), false)?;
        at += found.consumed;
        Ok(found)
    };
    let version = next()?;
    if *version.get(version.root) != Object::Int(VERSION) {
        return Err("is of a version of PyTorch's old format that is not known".into());
    }
    let machine = next()?;
    if is_big_endian(&machine) {
        return Err("holds values in big-endian order, which is not known; save it again on another machine".into());
    }
    let object = next()?;
    let keys = next()?;
    let mut lens = BTreeMap::new();
    sizes_of_storages(&object, &mut lens)?;
    let storages = find_storages(file, at, &keys, &lens)?;
    let mut contents = Contents { values: plain::beside_tensors(&object), ..Contents::default() };
    walk::collect(&object, "", &mut contents, &mut |mark| {
        let &(start, len) = storages.get(mark.key).ok_or_else(|| format!("has no storage `{}`", mark.key))?;
        let size = mark.dtype.map_or(1, StoredDtype::size);
        let [offset, values] = mark.part.unwrap_or([0, mark.len]);
        let part = offset
            .checked_mul(size)
            .zip(values.checked_mul(size))
            .filter(|(skip, bytes)| skip.checked_add(*bytes).is_some_and(|end| end <= len));
        let Some((skip, bytes)) = part else {
            return Err(format!("should have {values} values in its storage `{}`, which has {len} bytes", mark.key));
        };
        Ok((Storage::InFile(start + skip..start + skip + bytes), bytes))
    })?;
    Ok(contents)
}

fn is_big_endian(machine: &Pickle<'_>) -> bool {
    let Object::Dictionary(entries) = machine.get(machine.root) else { return false };
    entries
        .iter()
        .any(|&(key, value)| *machine.get(key) == Object::Text("little_endian") && *machine.get(value) == Object::Bool(false))
}

/// The bytes per value of every storage that the pickle names.
fn sizes_of_storages<'a>(pickle: &Pickle<'a>, sizes: &mut BTreeMap<&'a str, usize>) -> Parsed<()> {
    for StorageMark { dtype, key, .. } in pickle.storages() {
        let size = dtype.map_or(1, StoredDtype::size);
        if sizes.insert(key, size).is_some_and(|other| other != size) {
            return Err(format!("gives its storage `{key}` two types"));
        }
    }
    Ok(())
}

/// The offset and the size in bytes of each storage.
fn find_storages<'a>(
    file: &[u8],
    mut at: usize,
    keys: &Pickle<'a>,
    sizes: &BTreeMap<&'a str, usize>,
) -> Parsed<BTreeMap<&'a str, (usize, usize)>> {
    let Object::List(list) = keys.get(keys.root) else { return Err("has no list of storages".into()) };
    let mut found = BTreeMap::new();
    for &id in list {
        let &Object::Text(key) = keys.get(id) else { return Err("has a storage whose name is no text".into()) };
        let short = || format!("ends before its storage `{key}` does: the file is damaged or cut short");
        let size = *sizes.get(key).ok_or_else(|| format!("has a storage `{key}` that no tensor is in"))?;
        let len = file.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(short)?;
        let bytes = usize::try_from(u64::from_le_bytes(*len)).ok().and_then(|len| len.checked_mul(size)).ok_or_else(short)?;
        let start = at + len.len();
        at = start.checked_add(bytes).filter(|&end| end <= file.len()).ok_or_else(short)?;
        found.insert(key, (start, bytes));
    }
    Ok(found)
}
