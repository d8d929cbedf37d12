//! Collects named tensors from the described objects.

use std::collections::BTreeMap;

use super::super::stored::Layout;
use super::object::{Id, Object, Pickle, StorageMark, TensorMark};
use super::{Contents, Parsed, Storage};

/// The largest depth of nested dictionaries; weights are rarely deeper than a module of a module.
const MAX_DEPTH: usize = 64;
/// The largest number of visits. A shared object counts each time: a small file can describe a huge tree of shared parts.
const MAX_VISITS: usize = 4_000_000;
/// The largest number of tensors in a file.
const MAX_TENSORS: usize = 200_000;
/// The largest length of a name in bytes.
const MAX_NAME_LENGTH: usize = 512;

/// Adds the tensors of `pickle` to `contents`; nested dictionaries give names with dots. `resolve` returns the offset and the size
/// in bytes of a storage.
///
/// # Errors
///
/// If two tensors have the same name, a tensor does not fit its storage, or the tree is too large.
pub(super) fn collect<'a>(
    pickle: &Pickle<'a>,
    prefix: &str,
    contents: &mut Contents,
    resolve: &mut dyn FnMut(&StorageMark<'a>) -> Parsed<(Storage, usize)>,
) -> Parsed<()> {
    let mut walk = Walk { pickle, contents, resolve, known: BTreeMap::new(), visits: 0 };
    let mut name = prefix.to_string();
    walk.visit(pickle.root, &mut name, 0)
}

/// A storage's key, and a part of it.
type Part<'a> = (&'a str, Option<[usize; 2]>);

struct Walk<'w, 'a> {
    pickle: &'w Pickle<'a>,
    contents: &'w mut Contents,
    resolve: &'w mut dyn FnMut(&StorageMark<'a>) -> Parsed<(Storage, usize)>,
    /// Storages by key and part: the index in the contents, and the size in bytes.
    known: BTreeMap<Part<'a>, (usize, usize)>,
    visits: usize,
}

impl<'a> Walk<'_, 'a> {
    fn visit(&mut self, id: Id, name: &mut String, depth: usize) -> Parsed<()> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(format!("describes more than {MAX_VISITS} objects"));
        }
        let pickle = self.pickle;
        let parts: &mut dyn Iterator<Item = (String, Id)> = match pickle.get(id) {
            Object::Tensor(tensor) => return self.tensor(tensor, name),
            Object::Dictionary(entries) => &mut entries.iter().filter_map(|&(key, value)| Some((part_name(pickle, key)?, value))),
            Object::List(items) => &mut items.iter().enumerate().map(|(n, &item)| (n.to_string(), item)),
            Object::Instance(Some(state)) => return self.deeper(*state, name, depth),
            _ => return Ok(()),
        };
        let len = name.len();
        for (part, value) in parts {
            if len > 0 {
                name.push('.');
            }
            name.push_str(&part);
            if name.len() > MAX_NAME_LENGTH {
                return Err(format!("has a tensor whose name is longer than {MAX_NAME_LENGTH} bytes"));
            }
            self.deeper(value, name, depth)?;
            name.truncate(len);
        }
        Ok(())
    }

    fn deeper(&mut self, id: Id, name: &mut String, depth: usize) -> Parsed<()> {
        if depth == MAX_DEPTH {
            return Err(format!("nests deeper than {MAX_DEPTH} levels"));
        }
        self.visit(id, name, depth + 1)
    }

    fn tensor(&mut self, tensor: &TensorMark<'a>, name: &str) -> Parsed<()> {
        let mark = &tensor.storage;
        let key = (mark.key, mark.part);
        let (storage, bytes) = match self.known.get(&key) {
            Some(&found) => found,
            None => {
                let (storage, bytes) = (self.resolve)(mark)?;
                self.contents.storages.push(storage);
                let found = (self.contents.storages.len() - 1, bytes);
                self.known.insert(key, found);
                found
            }
        };
        let layout = Layout::new(tensor.dtype, tensor.shape.clone(), tensor.strides.clone(), tensor.offset, bytes)
            .map_err(|what| format!("tensor `{name}` {what}"))?;
        // A file with a single tensor gives it no name.
        let name = if name.is_empty() { "tensor" } else { name };
        if self.contents.tensors.insert(name.to_string(), (layout, storage)).is_some() {
            return Err(format!("has two tensors called `{name}`"));
        }
        if self.contents.tensors.len() > MAX_TENSORS {
            return Err(format!("has more than {MAX_TENSORS} tensors"));
        }
        Ok(())
    }
}

/// A dictionary's key as part of a name. Entries with keys that are neither text nor integers hold no weights.
fn part_name(pickle: &Pickle<'_>, key: Id) -> Option<String> {
    match pickle.get(key) {
        Object::Text(text) => Some((*text).to_string()),
        Object::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
