//! NumPy arrays: a magic number, a header that is the text of a Python dictionary, and the values. `.npz` files are zip archives of
//! them.

use super::stored::{Layout, StoredDtype};

const MAGIC: &[u8] = b"\x93NUMPY";
/// A header is usually one line; the format allows 64 KiB and more.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// Reads an array: the offset of its values, and their layout.
///
/// # Errors
///
/// If `bytes` are no array, or hold values of a dtype that weights do not have; the message says why.
pub(crate) fn read(bytes: &[u8]) -> Result<(usize, Layout), String> {
    let damaged = || "is no array of NumPy, or damaged".to_string();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (len, start) = match rest {
        [1, _, low, high, ..] => (u16::from_le_bytes([*low, *high]) as usize, MAGIC.len() + 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, MAGIC.len() + 6),
        _ => return Err(damaged()),
    };
    let end = start.checked_add(len).filter(|&end| len <= MAX_HEADER_BYTES && end <= bytes.len()).ok_or_else(damaged)?;
    let header = std::str::from_utf8(&bytes[start..end]).ok().ok_or_else(damaged)?;
    let value = |key: &str| {
        let (_, behind) = header.split_once(&format!("'{key}':")).ok_or_else(damaged)?;
        Ok::<&str, String>(behind.trim_start())
    };
    let quoted = value("descr")?.strip_prefix('\'').and_then(|text| text.split('\'').next()).ok_or_else(damaged)?;
    let dtype = dtype(quoted).ok_or_else(|| format!("holds values of NumPy's type `{quoted}`, which no weights have"))?;
    let by_columns = match value("fortran_order")? {
        text if text.starts_with("False") => false,
        text if text.starts_with("True") => true,
        _ => return Err(damaged()),
    };
    let sides = value("shape")?.strip_prefix('(').and_then(|text| text.split_once(')')).ok_or_else(damaged)?.0;
    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape = sides.map(|side| side.parse().ok().ok_or_else(damaged)).collect::<Result<Vec<usize>, String>>()?;
    let available = bytes.len() - end;
    let layout = if by_columns {
        let before = |axis: usize| shape[..axis].iter().fold(1usize, |product, &side| product.saturating_mul(side.max(1)));
        let strides = (0..shape.len()).map(before).collect();
        Layout::new(dtype, shape, strides, 0, available)?
    } else {
        Layout::row_major(dtype, shape, available)?
    };
    Ok((end, layout))
}

/// The dtype of NumPy's name, in little-endian order.
fn dtype(name: &str) -> Option<StoredDtype> {
    Some(match name {
        "<f8" => StoredDtype::F64,
        "<f4" => StoredDtype::F32,
        "<f2" => StoredDtype::F16,
        "<i8" => StoredDtype::I64,
        "<i4" => StoredDtype::I32,
        "<i2" => StoredDtype::I16,
        "|i1" => StoredDtype::I8,
        "<u8" => StoredDtype::U64,
        "<u4" => StoredDtype::U32,
        "<u2" => StoredDtype::U16,
        "|u1" => StoredDtype::U8,
        "|b1" => StoredDtype::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(header: &str, values: &[f32]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn values(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), String> {
        let (start, layout) = read(bytes)?;
        let stored = layout.gather(&bytes[start..])?;
        Ok((layout.shape.clone(), stored.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    }

    #[test]
    fn arrays_of_both_orders_are_read() {
        let rows = array("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &[1., 2., 3., 4., 5., 6.]);
        assert_eq!(values(&rows), Ok((vec![2, 3], vec![1., 2., 3., 4., 5., 6.])));
        let columns = array("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", &[1., 4., 2., 5., 3., 6.]);
        assert_eq!(values(&columns), values(&rows));
        let single = array("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", &[7.]);
        assert_eq!(values(&single), Ok((vec![1], vec![7.])));
        let scalar = array("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", &[7.]);
        assert_eq!(values(&scalar), Ok((vec![], vec![7.])));
    }

    #[test]
    fn damaged_arrays_are_errors() {
        let whole = array("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &[1.; 6]);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut to {len}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x81;
            let _ = values(&changed);
        }
        for header in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        ] {
            assert!(read(&array(header, &[1.])).is_err(), "{header}");
        }
    }
}
