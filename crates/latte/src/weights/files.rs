//! Weight files on the disk, mapped into memory: nothing is read before it is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::source::TensorSource;
use crate::{Error, Result};

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredDtype {
    /// 64-bit floats.
    F64,
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Integers and booleans, which no weight is: their size in bytes.
    Other(usize),
}

impl StoredDtype {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(size) => size,
        }
    }
}

impl std::fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Other(_) => "integers",
        })
    }
}

/// Where a tensor lies in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) dtype: StoredDtype,
    pub(super) shape: Vec<usize>,
    /// Values from one index of an axis to the next; `None` where they lie row by row.
    pub(super) strides: Option<Vec<usize>>,
    /// The byte at which the first value begins.
    pub(super) start: usize,
}

impl Stored {
    /// How many values it has; `None` if that is more than fits the memory.
    pub(super) fn num_values(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &len| n.checked_mul(len)).filter(|n| n.checked_mul(8).is_some())
    }

    /// The byte behind the last value that it touches; `None` if that is beyond all memory.
    pub(super) fn end(&self) -> Option<usize> {
        let values = self.num_values()?;
        let touched = match &self.strides {
            _ if values == 0 => 0,
            None => values,
            Some(strides) => self
                .shape
                .iter()
                .zip(strides)
                .try_fold(1usize, |last, (&len, &stride)| last.checked_add(stride.checked_mul(len - 1)?))?,
        };
        self.start.checked_add(touched.checked_mul(self.dtype.size())?)
    }
}

/// One or several files that hold the tensors of one model: safetensors, sharded safetensors, or what `torch.save` wrote.
pub struct WeightFiles {
    files: Vec<(PathBuf, Mmap)>,
    /// By name: which file, and where in it.
    tensors: BTreeMap<String, (usize, Stored)>,
    /// The text metadata of safetensors files.
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for WeightFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<&PathBuf> = self.files.iter().map(|(path, _)| path).collect();
        f.debug_struct("WeightFiles").field("files", &paths).field("tensors", &self.tensors.len()).finish_non_exhaustive()
    }
}

/// The names under which folders hold weights, the better ones first.
const NAMES: [&str; 12] = [
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
    "pytorch_model.fp16.bin",
];

impl WeightFiles {
    /// Opens a weights file (`.safetensors`, or what `torch.save` wrote: `.pt`, `.pth`, `.bin`, `.ckpt`), the index of a sharded
    /// one (`.index.json`), or a folder that holds one of these under a usual name.
    ///
    /// Nothing but the headers is read: a file larger than the memory opens at once.
    ///
    /// # Errors
    ///
    /// If there is no such file, it is damaged, or it asks for anything but tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let mut opened = Self { files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        if path.is_dir() {
            let file = NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file());
            let file =
                file.ok_or_else(|| wrong(path, format!("no weights in this folder; expected one of {}", NAMES.join(", "))))?;
            return Self::open(&file);
        }
        if path.to_string_lossy().ends_with(".index.json") {
            for shard in shards(path)? {
                opened.add(&shard)?;
            }
        } else {
            opened.add(path)?;
        }
        Ok(opened)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(wrong(path, "is no file"));
        }
        // SAFETY: the map is only read. Another program that shortens the file while it is used would end this one with a
        // signal, as with every mapped file; weights are written under another name and renamed, by this program and by others.
        #[expect(unsafe_code, reason = "memory-mapping: a 4.7 GB text encoder opens without a copy of it in memory")]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let found = self.safetensors(&map, path)?;
        for (name, stored) in found {
            if stored.end().is_none_or(|end| end > map.len()) {
                return Err(wrong(path, format!("tensor `{name}` reaches beyond the end of the file; copy the file again")));
            }
            // A view may repeat its values, but nobody's weights are larger than their file.
            if stored.num_values().is_none_or(|n| n > map.len()) {
                return Err(wrong(path, format!("tensor `{name}` of shape {:?} is larger than its file", stored.shape)));
            }
            if self.tensors.insert(name.clone(), (self.files.len(), stored)).is_some() {
                return Err(wrong(path, format!("tensor `{name}` is there twice")));
            }
        }
        self.files.push((path.to_path_buf(), map));
        Ok(())
    }

    fn safetensors(&mut self, map: &Mmap, path: &Path) -> Result<Vec<(String, Stored)>> {
        let bad = |e: &dyn std::fmt::Display| wrong(path, format!("is no complete safetensors file ({e}); copy it again"));
        let (header, metadata) = SafeTensors::read_metadata(map).map_err(|e| bad(&e))?;
        SafeTensors::deserialize(map).map_err(|e| bad(&e))?;
        self.metadata.extend(metadata.metadata().clone().unwrap_or_default());
        let dtype = |dtype: Dtype| match dtype {
            Dtype::F64 => StoredDtype::F64,
            Dtype::F32 => StoredDtype::F32,
            Dtype::F16 => StoredDtype::F16,
            Dtype::BF16 => StoredDtype::Bf16,
            other => StoredDtype::Other(other.bitsize().div_ceil(8)),
        };
        // Eight bytes tell how long the header is, which follows.
        let place = |info: &safetensors::tensor::TensorInfo| Stored {
            dtype: dtype(info.dtype),
            shape: info.shape.clone(),
            strides: None,
            start: 8 + header + info.data_offsets.0,
        };
        Ok(metadata.tensors().into_iter().map(|(name, info)| (name, place(info))).collect())
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The text metadata of safetensors files, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// How the tensor called `name` is stored; `None` if there is none.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        self.tensors.get(name).map(|(_, stored)| stored.dtype)
    }

    /// The SHA-256 of each file, in hexadecimal. Reads all of it.
    pub fn hashes(&self) -> Vec<(PathBuf, String)> {
        self.files.iter().map(|(path, map)| (path.clone(), hex(&Sha256::digest(map)))).collect()
    }

    /// A short name for the contents, from names, shapes, places and samples of the values: read in no time, and different for
    /// weights that were trained apart, but no proof against tampering.
    pub fn fingerprint(&self) -> String {
        const SAMPLES: usize = 64;
        const SAMPLE: usize = 4096;
        let mut hash = Sha256::new();
        for (name, (file, stored)) in &self.tensors {
            hash.update(format!("{name} {file} {stored:?}\n"));
        }
        for (_, map) in &self.files {
            hash.update(map.len().to_le_bytes());
            for i in 0..SAMPLES {
                let start = (map.len() / SAMPLES * i).min(map.len().saturating_sub(SAMPLE));
                hash.update(&map[start..map.len().min(start + SAMPLE)]);
            }
        }
        hex(&hash.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::Weights { path: path.to_path_buf(), what: what.into() }
}

/// The files that an index names, each once. They lie beside it.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string(index).map_err(|source| Error::Io { path: index.to_path_buf(), source })?;
    let value: Value = serde_json::from_str(&text).map_err(|e| wrong(index, format!("is no JSON: {e}")))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong(index, "expected a `weight_map` of tensors to files, got none"))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    // A name with a folder in it could lead anywhere.
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != **name)) {
        return Err(wrong(index, format!("expected names of files beside the index, got `{name}`")));
    }
    if names.is_empty() {
        return Err(wrong(index, "names no files"));
    }
    Ok(names.into_iter().map(|name| index.with_file_name(name)).collect())
}

impl TensorSource for WeightFiles {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(_, stored)| stored.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let Some((file, stored)) = self.tensors.get(name) else {
            let path = self.files.first().map_or_else(PathBuf::new, |(path, _)| path.clone());
            return Err(wrong(&path, format!("no tensor `{name}`")));
        };
        let (path, map) = &self.files[*file];
        let values = values(map, stored).ok_or_else(|| match stored.dtype {
            StoredDtype::Other(_) => wrong(path, format!("tensor `{name}` holds integers; expected f32, f16, bf16 or f64")),
            _ => wrong(path, format!("tensor `{name}` reaches beyond the end of the file; copy the file again")),
        })?;
        Ok(Tensor::from_vec(values, stored.shape.as_slice(), &Device::Cpu)?)
    }
}

/// All values in the order of the shape, as f32.
fn values(bytes: &[u8], stored: &Stored) -> Option<Vec<f32>> {
    let count = stored.num_values()?;
    let bytes = bytes.get(stored.start..stored.end()?)?;
    match stored.dtype {
        StoredDtype::F64 => gather(bytes, stored, count, |b| f64::from_le_bytes(b) as f32),
        StoredDtype::F32 => gather(bytes, stored, count, f32::from_le_bytes),
        StoredDtype::F16 => gather(bytes, stored, count, |b| f16::from_le_bytes(b).to_f32()),
        StoredDtype::Bf16 => gather(bytes, stored, count, |b| bf16::from_le_bytes(b).to_f32()),
        StoredDtype::Other(_) => None,
    }
}

fn gather<const N: usize>(bytes: &[u8], stored: &Stored, count: usize, value: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
    let stored_values = bytes.as_chunks::<N>().0;
    let Some(strides) = &stored.strides else {
        return Some(stored_values.get(..count)?.iter().map(|&b| value(b)).collect());
    };
    // A view repeats few values many times (a stride of 0): no more memory is taken than its shape says.
    let (mut out, mut index) = (Vec::with_capacity(count), vec![0usize; stored.shape.len()]);
    let mut place = 0usize;
    for _ in 0..count {
        out.push(value(*stored_values.get(place)?));
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < stored.shape[axis] {
                break;
            }
            place -= strides[axis] * stored.shape[axis];
            index[axis] = 0;
        }
    }
    Some(out)
}
