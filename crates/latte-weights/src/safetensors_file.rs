//! The safetensors format: eight bytes with the length of the header, the header as JSON, the values.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::stored::{Layout, RawTensor, StoredDtype};
use crate::{Error, Result};

/// The header's key for metadata.
const METADATA: &str = "__metadata__";
/// Headers are padded to a multiple of this, so that values begin at one.
const ALIGNMENT: usize = 8;
/// The largest header in bytes that the format allows.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// The content of a safetensors file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Tensors by name: the layout and the byte range of each.
    pub(crate) tensors: BTreeMap<String, (Layout, Range<usize>)>,
    /// Texts that the writer put into the header.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads the header of `file` and checks it.
///
/// # Errors
///
/// If it is damaged or does not fit the file; the message says why.
pub(crate) fn read(file: &[u8]) -> std::result::Result<Contents, String> {
    let damaged = |e: safetensors::SafeTensorError| {
        cut_short(file).unwrap_or_else(|| format!("is no complete safetensors file ({e}); write or copy it again"))
    };
    // This also checks that the tensors are contiguous and fill the file.
    let (header_len, header) = SafeTensors::read_metadata(file).map_err(damaged)?;
    let begin = header_len + 8;
    if begin.checked_add(header.data_len()) != Some(file.len()) {
        return Err("is no complete safetensors file (its length is not what the header says); write or copy it again".into());
    }
    let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut tensors = BTreeMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let dtype = StoredDtype::from_safetensors(&info.dtype.to_string())
            .ok_or_else(|| format!("holds {} in tensor `{name}`, which is not known", info.dtype))?;
        let range = begin + info.data_offsets.0..begin + info.data_offsets.1;
        let layout =
            Layout::row_major(dtype, info.shape.clone(), range.len()).map_err(|what| format!("tensor `{name}` {what}"))?;
        tensors.insert(name, (layout, range));
    }
    Ok(Contents { tensors, metadata })
}

/// The error for a truncated file: how many bytes are missing.
fn cut_short(file: &[u8]) -> Option<String> {
    let header_len = usize::try_from(u64::from_le_bytes(*file.first_chunk()?)).ok()?;
    // The format allows no longer headers.
    if file.get(8) != Some(&b'{') || header_len > MAX_HEADER_BYTES {
        return None;
    }
    let begin = header_len + 8;
    let told = |expected: String| {
        let got = file.len();
        format!("is no complete safetensors file: it has {got} bytes, expected {expected}; download or copy it again")
    };
    let Some(header) = file.get(8..begin) else { return Some(told(format!("more than {begin}"))) };
    let header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let ends = header.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    let expected = ends.max()?.checked_add(begin as u64)?;
    ((file.len() as u64) < expected).then(|| told(expected.to_string()))
}

/// Writes the tensors `names`. `read` returns them one at a time, so that only one is in memory.
///
/// # Errors
///
/// If a tensor cannot be read or has a dtype that the format lacks, or the disk fails.
pub(crate) fn write<'t>(
    mut out: impl Write,
    names: &[&str],
    metadata: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Result<RawTensor<'t>>,
    failed: &dyn Fn(std::io::Error) -> Error,
) -> Result<()> {
    let unknown = |what: String| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    let mut described = Vec::new();
    for &name in names {
        let RawTensor { dtype, shape, bytes } = read(name)?;
        let Some(dtype_name) = dtype.safetensors_name() else {
            return Err(unknown(format!("tensor `{name}` holds {dtype}, which safetensors files cannot")));
        };
        described.push((name, dtype, dtype_name, shape, bytes.len()));
    }
    // Large values first, as in the format's own library: then every tensor begins at a multiple of its value size.
    described.sort_by(|a, b| b.1.size().cmp(&a.1.size()).then(a.0.cmp(b.0)));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.into(), json!(metadata));
    }
    let mut at = 0;
    for (name, _, dtype, shape, len) in &described {
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + len]}));
        at += len;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed)?;
    out.write_all(&text).map_err(failed)?;
    for (name, ..) in &described {
        out.write_all(&read(name)?.bytes).map_err(failed)?;
    }
    Ok(())
}
