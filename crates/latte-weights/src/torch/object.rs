//! The objects that a pickle describes; they refer to each other by index.

use super::super::stored::StoredDtype;
use super::globals::Role;

/// The index of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object<'a> {
    /// An object without weights.
    Other,
    /// Python's `None`.
    None,
    /// A floating-point number.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// Text.
    Text(&'a str),
    /// A list, tuple or set.
    List(Vec<Id>),
    /// A dictionary.
    Dictionary(Vec<(Id, Id)>),
    /// A name that files may contain, and its meaning.
    Name(&'a str, Role),
    /// A storage.
    Storage(StorageMark<'a>),
    /// A tensor.
    Tensor(TensorMark<'a>),
    /// An object with attributes.
    Instance(Option<Id>),
}

/// A reference to a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageMark<'a> {
    /// The dtype of the values; `None` for bytes.
    pub(super) dtype: Option<StoredDtype>,
    /// Its name in the container.
    pub(super) key: &'a str,
    /// The number of values (bytes if there is no dtype) in the whole storage.
    pub(super) len: usize,
    /// Only in old files: the offset, in values, of the part that is meant, and its number of values.
    pub(super) part: Option<[usize; 2]>,
}

/// A tensor in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorMark<'a> {
    pub(super) storage: StorageMark<'a>,
    pub(super) dtype: StoredDtype,
    /// The offset of its first value, in values.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The result of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// All objects; the position is the index.
    pub(super) objects: Vec<Object<'a>>,
    /// The object that contains all others.
    pub(super) root: Id,
    /// The number of bytes that the pickle takes.
    pub(super) consumed: usize,
}

impl<'a> Pickle<'a> {
    /// Every storage that is referred to, in the order of the file.
    pub(super) fn storages(&self) -> impl Iterator<Item = &StorageMark<'a>> {
        self.objects.iter().filter_map(|object| match object {
            Object::Storage(mark) => Some(mark),
            _ => None,
        })
    }

    /// The object with this index.
    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }
}
