//! What a pickle describes: objects that name each other by number.

use super::super::stored::StoredDtype;
use super::globals::Role;

/// An object's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object<'a> {
    /// Something without weights in it.
    Other,
    /// Python's `None`.
    None,
    /// A number that is not whole.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Text.
    Text(&'a str),
    /// A list, tuple or set.
    List(Vec<Id>),
    /// A dictionary.
    Dictionary(Vec<(Id, Id)>),
    /// A name that may be there, and what it stands for.
    Name(&'a str, Role),
    /// A run of values.
    Storage(StorageMark<'a>),
    /// A tensor.
    Tensor(TensorMark<'a>),
    /// Something with attributes.
    Instance(Option<Id>),
}

/// Which run of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageMark<'a> {
    /// The type of the values; none for bytes.
    pub(super) dtype: Option<StoredDtype>,
    /// Its name in the container.
    pub(super) key: &'a str,
    /// Values (bytes if there is no type) in the whole run.
    pub(super) len: usize,
    /// Values before the part that is meant (only in old files), and how many that part has.
    pub(super) part: Option<[usize; 2]>,
}

/// A tensor in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorMark<'a> {
    pub(super) storage: StorageMark<'a>,
    pub(super) dtype: StoredDtype,
    /// Values before its first.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle describes.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// All objects, by number.
    pub(super) objects: Vec<Object<'a>>,
    /// The object that all others are parts of.
    pub(super) root: Id,
    /// Bytes that the pickle took.
    pub(super) consumed: usize,
}

impl<'a> Pickle<'a> {
    /// Every storage that is pointed to, in the order of the file.
    pub(super) fn storages(&self) -> impl Iterator<Item = &StorageMark<'a>> {
        self.objects.iter().filter_map(|object| match object {
            Object::Storage(mark) => Some(mark),
            _ => None,
        })
    }

    /// The object with this number.
    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }
}
