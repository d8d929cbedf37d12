//! The layout of a tensor in a file: the dtype of its values, and the offset of each.

use std::borrow::Cow;
use std::fmt;

/// The dtype of stored values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredDtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit float with 5 bits of exponent.
    F16,
    /// 16-bit float with 8 bits of exponent.
    Bf16,
    /// 8-bit float with 4 bits of exponent.
    F8E4m3,
    /// 8-bit float with 5 bits of exponent.
    F8E5m2,
    /// Complex number of two 32-bit floats.
    C64,
    /// Complex number of two 64-bit floats.
    C128,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

/// A tensor as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor<'t> {
    /// The dtype of its values.
    pub dtype: StoredDtype,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// Its values in row-major order, little-endian.
    pub bytes: Cow<'t, [u8]>,
}

/// The size and the names of a dtype.
struct Row {
    dtype: StoredDtype,
    size: usize,
    /// In safetensors headers; `None` if the format has no such dtype.
    safetensors: Option<&'static str>,
    /// In PyTorch, as `torch.<name>`.
    torch: &'static str,
    /// The PyTorch class of its storages, if there is one.
    storage: Option<&'static str>,
}

const fn row(
    dtype: StoredDtype,
    size: usize,
    safetensors: Option<&'static str>,
    torch: &'static str,
    storage: Option<&'static str>,
) -> Row {
    Row { dtype, size, safetensors, torch, storage }
}

const ROWS: &[Row] = &[
    row(StoredDtype::F64, 8, Some("F64"), "float64", Some("DoubleStorage")),
    row(StoredDtype::F32, 4, Some("F32"), "float32", Some("FloatStorage")),
    row(StoredDtype::F16, 2, Some("F16"), "float16", Some("HalfStorage")),
    row(StoredDtype::Bf16, 2, Some("BF16"), "bfloat16", Some("BFloat16Storage")),
    row(StoredDtype::F8E4m3, 1, Some("F8_E4M3"), "float8_e4m3fn", None),
    row(StoredDtype::F8E5m2, 1, Some("F8_E5M2"), "float8_e5m2", None),
    row(StoredDtype::C64, 8, Some("C64"), "complex64", Some("ComplexFloatStorage")),
    row(StoredDtype::C128, 16, None, "complex128", Some("ComplexDoubleStorage")),
    row(StoredDtype::I64, 8, Some("I64"), "int64", Some("LongStorage")),
    row(StoredDtype::I32, 4, Some("I32"), "int32", Some("IntStorage")),
    row(StoredDtype::I16, 2, Some("I16"), "int16", Some("ShortStorage")),
    row(StoredDtype::I8, 1, Some("I8"), "int8", Some("CharStorage")),
    row(StoredDtype::U64, 8, Some("U64"), "uint64", None),
    row(StoredDtype::U32, 4, Some("U32"), "uint32", None),
    row(StoredDtype::U16, 2, Some("U16"), "uint16", None),
    row(StoredDtype::U8, 1, Some("U8"), "uint8", Some("ByteStorage")),
    row(StoredDtype::Bool, 1, Some("BOOL"), "bool", Some("BoolStorage")),
];

impl StoredDtype {
    fn row(self) -> &'static Row {
        // The table has a row for every dtype, in the order of the variants; a test checks this.
        &ROWS[self as usize]
    }

    /// Bytes per value.
    pub fn size(self) -> usize {
        self.row().size
    }

    /// The name in safetensors headers; `None` if the format has no such dtype.
    pub fn safetensors_name(self) -> Option<&'static str> {
        self.row().safetensors
    }

    /// The dtype with this name in safetensors headers.
    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.safetensors == Some(name)).map(|row| row.dtype)
    }

    /// The dtype `torch.<name>`.
    pub(crate) fn from_torch(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.torch == name).map(|row| row.dtype)
    }

    /// The dtype of PyTorch's storage class `name`.
    pub(crate) fn from_storage(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.storage == Some(name)).map(|row| row.dtype)
    }

    /// The PyTorch class of storages of this dtype.
    pub(crate) fn storage_class(self) -> Option<&'static str> {
        self.row().storage
    }

    /// The name in PyTorch, without `torch.`.
    pub(crate) fn torch_name(self) -> &'static str {
        self.row().torch
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.torch_name())
    }
}

/// The largest number of axes of a tensor.
const MAX_AXES: usize = 32;
/// The largest number of values of a tensor that repeats a smaller storage. Real weights do not repeat values, and a few bytes of a
/// hostile file could ask for any amount of memory.
const MAX_REPEATED: usize = 1 << 24;

/// The layout of one tensor's values in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// The distance, in values, from one index of an axis to the next.
    strides: Vec<usize>,
    /// The offset of the first value in bytes.
    start: usize,
    /// The number of values.
    len: usize,
}

impl Layout {
    /// A tensor of `shape` in `available` bytes; the value at an index has the offset `offset` + Σ index · stride, in values.
    ///
    /// # Errors
    ///
    /// If any value lies outside, or the shape is impossible; the message says why.
    pub(crate) fn new(
        dtype: StoredDtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        available: usize,
    ) -> Result<Self, String> {
        let absurd = || format!("has the impossible shape {shape:?} with strides {strides:?}");
        if shape.len() != strides.len() || shape.len() > MAX_AXES {
            return Err(absurd());
        }
        let len = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).ok_or_else(absurd)?;
        len.checked_mul(dtype.size()).ok_or_else(absurd)?;
        let mut last = offset;
        if len > 0 {
            for (side, stride) in shape.iter().zip(&strides) {
                last = (side - 1).checked_mul(*stride).and_then(|way| last.checked_add(way)).ok_or_else(absurd)?;
            }
            let end = last.checked_add(1).and_then(|n| n.checked_mul(dtype.size())).ok_or_else(absurd)?;
            if end > available {
                return Err(format!("needs {end} bytes of its storage, which has {available}: the file is damaged or cut short"));
            }
        }
        if len > MAX_REPEATED && len > available / dtype.size() {
            return Err(format!("repeats {} stored values to the shape {shape:?}", available / dtype.size()));
        }
        let start = if len == 0 { 0 } else { offset * dtype.size() };
        Ok(Self { dtype, shape, strides, start, len })
    }

    /// A tensor whose values are contiguous in row-major order.
    pub(crate) fn row_major(dtype: StoredDtype, shape: Vec<usize>, available: usize) -> Result<Self, String> {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
        }
        Self::new(dtype, shape, strides, 0, available)
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the values are contiguous in row-major order.
    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        for (&side, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if side != 1 && stride != expected {
                return false;
            }
            expected *= side;
        }
        true
    }

    /// The values in row-major order: borrowed if they are contiguous, else copied.
    ///
    /// # Errors
    ///
    /// If `storage` is shorter than the one that the layout was checked against.
    pub(crate) fn gather<'s>(&self, storage: &'s [u8]) -> Result<Cow<'s, [u8]>, String> {
        let short = || "lies outside of its storage".to_string();
        let size = self.dtype.size();
        if self.len == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        if self.is_row_major() {
            return Ok(Cow::Borrowed(storage.get(self.start..self.start + self.len * size).ok_or_else(short)?));
        }
        let mut gathered = Vec::with_capacity(self.len * size);
        let mut index = vec![0usize; self.shape.len()];
        let mut at = self.start;
        for _ in 0..self.len {
            gathered.extend_from_slice(storage.get(at..at + size).ok_or_else(short)?);
            // The next index in row-major order, and the distance of its value from the current one.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis] * size;
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.shape[axis] * self.strides[axis] * size;
                index[axis] = 0;
            }
        }
        Ok(Cow::Owned(gathered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_row() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!((row.dtype as usize, row.dtype.size()), (index, row.size));
        }
        assert_eq!(ROWS.len(), StoredDtype::Bool as usize + 1);
    }

    #[test]
    fn views_are_gathered_in_row_major_order() -> Result<(), String> {
        let bytes: Vec<u8> = (0..24).collect();
        let gather = |shape: &[usize], strides: &[usize], offset| {
            let layout = Layout::new(StoredDtype::U8, shape.to_vec(), strides.to_vec(), offset, 24)?;
            Ok::<_, String>(layout.gather(&bytes)?.into_owned())
        };
        assert_eq!(gather(&[2, 3], &[3, 1], 6)?, [6, 7, 8, 9, 10, 11]);
        assert_eq!(gather(&[3, 2], &[1, 3], 0)?, [0, 3, 1, 4, 2, 5]);
        assert_eq!(gather(&[2, 2, 2], &[1, 12, 4], 1)?, [1, 5, 13, 17, 2, 6, 14, 18]);
        assert!(gather(&[3, 2], &[1, 0], 22).unwrap_err().contains("25 bytes"));
        assert_eq!(gather(&[2, 2], &[1, 0], 22)?, [22, 22, 23, 23]);
        assert_eq!(gather(&[], &[], 23)?, [23]);
        assert_eq!(gather(&[0, 5], &[9, 9], 99)?, Vec::<u8>::new());
        assert_eq!(gather(&[1, 3], &[77, 1], 0)?, [0, 1, 2]);
        Ok(())
    }

    #[test]
    fn absurd_shapes_are_refused() {
        let huge = usize::MAX / 2;
        for (shape, strides) in [
            (vec![huge, 4], vec![1, 1]),
            (vec![2, 2], vec![huge, huge]),
            (vec![2], vec![1, 1]),
            (vec![1; 33], vec![1; 33]),
            (vec![1 << 40], vec![0]),
            (vec![1 << 20, 1 << 20], vec![0, 0]),
        ] {
            assert!(Layout::new(StoredDtype::F32, shape.clone(), strides, 0, 64).is_err(), "{shape:?}");
        }
        assert!(Layout::new(StoredDtype::F32, vec![1], vec![1], usize::MAX, 64).is_err());
    }
}
