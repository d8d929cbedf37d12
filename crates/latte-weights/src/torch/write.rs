//! Writes PyTorch's zip archives, which `torch.load(path, weights_only=True)` reads.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::super::stored::RawTensor;
use crate::{Error, Result};

/// The alignment of storages in PyTorch's files.
const ALIGNMENT: u16 = 64;
/// The largest size that zip stores in 32 bits.
const SMALL_FILE: u64 = u32::MAX as u64;
/// Every archive has a folder; its name has no meaning.
const FOLDER: &str = "archive";
/// The version of the archive that PyTorch has written since 1.6.
const VERSION: &[u8] = b"3\n";

/// Writes the tensors `names` to `out` as a state dict, under the key `part` if there is one; `values` are written beside it under
/// their own keys, as plain Python values. `read` returns one tensor at a time, so that only one is in memory.
///
/// # Errors
///
/// If a tensor cannot be read or has a dtype that PyTorch's archives lack, or the disk fails.
pub(crate) fn write_torch<'t>(
    out: impl Write + Seek,
    part: Option<(&str, &BTreeMap<String, Value>)>,
    names: &[&str],
    read: &dyn Fn(&str) -> Result<RawTensor<'t>>,
    failed: &dyn Fn(std::io::Error) -> Error,
) -> Result<()> {
    let failed_zip = |e: zip::result::ZipError| failed(e.into());
    let mut pickle = StateDict::begin(part.map(|(part, _)| part));
    for (key, name) in names.iter().enumerate() {
        pickle.tensor(name, key, &read(name)?).map_err(|e| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
    }
    let mut zip = ZipWriter::new(out);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    let mut entry = |name: &str, bytes: &[u8]| -> Result<()> {
        let options = options.large_file(bytes.len() as u64 >= SMALL_FILE);
        zip.start_file(format!("{FOLDER}/{name}"), options).map_err(failed_zip)?;
        zip.write_all(bytes).map_err(failed)
    };
    let values = part.map(|(_, values)| values);
    entry("data.pkl", &pickle.end(values))?;
    entry("byteorder", b"little")?;
    for (key, name) in names.iter().enumerate() {
        entry(&format!("data/{key}"), &read(name)?.bytes)?;
    }
    entry("version", VERSION)?;
    zip.finish().map_err(failed_zip)?;
    Ok(())
}

/// The pickle (protocol 2) of a dictionary of tensors.
struct StateDict {
    bytes: Vec<u8>,
    in_part: bool,
}

impl StateDict {
    fn begin(part: Option<&str>) -> Self {
        let mut pickle = Self { bytes: b"\x80\x02".to_vec(), in_part: part.is_some() };
        if let Some(part) = part {
            pickle.bytes.push(b'}');
            pickle.text(part);
        }
        pickle.ordered_dict();
        pickle.bytes.push(b'(');
        pickle
    }

    fn tensor(&mut self, name: &str, key: usize, tensor: &RawTensor<'_>) -> std::result::Result<(), String> {
        let class = tensor.dtype.storage_class().ok_or_else(|| {
            format!(
                "tensor `{name}` holds {}, which this program cannot write to a PyTorch file; write safetensors",
                tensor.dtype
            )
        })?;
        let len = tensor.bytes.len() / tensor.dtype.size();
        self.text(name);
        self.bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.bytes.extend(b"ctorch\n");
        self.bytes.extend(class.as_bytes());
        self.bytes.push(b'\n');
        self.text(&key.to_string());
        self.text("cpu");
        self.number(len);
        self.bytes.extend(b"tQ");
        self.number(0);
        self.bytes.push(b'(');
        let mut stride = 1;
        let mut strides = Vec::new();
        for &side in tensor.shape.iter().rev() {
            strides.push(stride);
            stride *= side.max(1);
        }
        for &side in &tensor.shape {
            self.number(side);
        }
        self.bytes.extend(b"t(");
        for &stride in strides.iter().rev() {
            self.number(stride);
        }
        self.bytes.extend(b"t\x89");
        self.ordered_dict();
        self.bytes.extend(b"tR");
        Ok(())
    }

    fn end(mut self, beside: Option<&BTreeMap<String, Value>>) -> Vec<u8> {
        self.bytes.push(b'u');
        if self.in_part {
            self.bytes.push(b's');
        }
        for (key, value) in beside.into_iter().flatten() {
            self.text(key);
            self.plain(value);
            self.bytes.push(b's');
        }
        self.bytes.push(b'.');
        self.bytes
    }

    /// JSON as plain Python values, which `torch.load(weights_only=True)` allows.
    fn plain(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(b'N'),
            Value::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(whole), _) => self.whole(whole),
                (None, float) => {
                    self.bytes.push(b'G');
                    self.bytes.extend(float.unwrap_or(f64::NAN).to_be_bytes());
                }
            },
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.bytes.extend(b"](");
                for item in items {
                    self.plain(item);
                }
                self.bytes.push(b'e');
            }
            Value::Object(entries) => {
                self.bytes.extend(b"}(");
                for (key, value) in entries {
                    self.text(key);
                    self.plain(value);
                }
                self.bytes.push(b'u');
            }
        }
    }

    fn ordered_dict(&mut self) {
        self.bytes.extend(b"ccollections\nOrderedDict\n)R");
    }

    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.whole(number as i128);
    }

    fn whole(&mut self, number: i128) {
        if let Ok(small) = i32::try_from(number) {
            self.bytes.push(b'J');
            self.bytes.extend(small.to_le_bytes());
        } else {
            // Nine bytes hold every u64 and every i64.
            self.bytes.extend(b"\x8a\x09");
            self.bytes.extend(&number.to_le_bytes()[..9]);
        }
    }
}
