//! Weights in files of any of the usual kinds, memory-mapped and read tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::map::FileMap;
use super::mixup::mixed_up;
use super::source::TensorSource;
use super::stored::{Layout, RawTensor, StoredDtype};
use super::torch::{self, Storage};
use super::{CONFIG, DESCRIPTION, TEXTS, hexadecimal, refuse, safetensors_file};
use crate::{Error, Result};

/// The file names that are looked for in a folder of weights, in this order.
const IN_FOLDERS: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "pytorch_model.fp16.bin",
    "diffusion_pytorch_model.fp16.bin",
];
/// The largest size of an index, configuration or tokenizer.
const MAX_BYTES: u64 = 64 << 20;

/// The tensors of one or more files.
///
/// Files are memory-mapped: opening reads the header, and a tensor is read when it is asked for. Supported are safetensors files,
/// PyTorch files (`.pt`, `.pth`, `.bin`, `.ckpt`, also TorchScript modules and files from before 1.6), both also in several parts
/// with an index, NumPy's `.npz`, and folders of these. Nested dictionaries give names with dots (`ema.pos_embed`).
///
/// ```no_run
/// use latte_weights::{TensorSource, WeightFiles};
///
/// # fn main() -> latte_weights::Result<()> {
/// let weights = WeightFiles::open("ffs.pt".as_ref())?;
/// let positions = weights.f32_tensor("ema.pos_embed")?; // f32, whatever it is stored as
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WeightFiles {
    path: PathBuf,
    files: Vec<FileMap>,
    /// The storages, each with the index of its file.
    storages: Vec<(usize, Storage)>,
    tensors: BTreeMap<String, (Layout, usize)>,
    metadata: BTreeMap<String, String>,
    /// Plain values beside the tensors of PyTorch files.
    values: BTreeMap<String, Value>,
    config: Option<Value>,
}

impl WeightFiles {
    /// Opens a file, or the weights in a folder (`model.safetensors`, `diffusion_pytorch_model.safetensors`, `pytorch_model.bin`,
    /// their indices and fp16 variants; else the only weights file in the folder).
    ///
    /// # Errors
    ///
    /// If no file is found, or it cannot be read, is damaged, or is of an unknown kind.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, config) =
            if path.is_dir() { (in_folder(path)?, read_json_if_there(&path.join(CONFIG))?) } else { (path.to_path_buf(), None) };
        let mut weights = Self {
            path: path.to_path_buf(),
            files: Vec::new(),
            storages: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            values: BTreeMap::new(),
            config,
        };
        if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            weights.add_parts(&file)?;
        } else {
            weights.add(&file)?;
        }
        Ok(weights)
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(FileMap::path)
    }

    /// The texts beside the tensors: from the headers of safetensors files, and from PyTorch files that this program wrote.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether the file has a description by this program of the model that the weights belong to.
    pub fn is_described(&self) -> bool {
        self.metadata.contains_key(DESCRIPTION) || self.values.contains_key(DESCRIPTION)
    }

    /// The description that this program wrote into the file ([`save`](crate::save)); `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it is not JSON.
    pub fn description(&self) -> Result<Option<Value>> {
        self.written(DESCRIPTION)
    }

    /// The configuration of the network: `config.json` of the opened folder, else the value that this program wrote into the file
    /// under that name; `None` if there is neither.
    ///
    /// # Errors
    ///
    /// If it is not JSON.
    pub fn config(&self) -> Result<Option<Value>> {
        match &self.config {
            Some(config) => Ok(Some(config.clone())),
            None => self.written(CONFIG),
        }
    }

    /// The value that this program wrote beside the tensors under `key`.
    fn written(&self, key: &str) -> Result<Option<Value>> {
        if let Some(value) = self.values.get(key) {
            return Ok(Some(value.clone()));
        }
        let parse = |text: &String| serde_json::from_str(text);
        let parsed = self.metadata.get(key).map(parse).transpose();
        parsed.map_err(|e| refuse(&self.path, format!("its metadata under `{key}` is not JSON: {e}")))
    }

    /// The dtype of the stored values of the tensor `name`; `None` if there is no such tensor.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        self.tensors.get(name).map(|(layout, _)| layout.dtype)
    }

    /// The file that holds the tensor `name`; `None` if there is no such tensor.
    pub fn file(&self, name: &str) -> Option<&Path> {
        let (_, storage) = self.tensors.get(name)?;
        Some(self.files[self.storages[*storage].0].path())
    }

    /// The tensor `name` as it is stored.
    ///
    /// # Errors
    ///
    /// If there is no such tensor.
    pub fn raw(&self, name: &str) -> Result<RawTensor<'_>> {
        let Some((layout, storage)) = self.tensors.get(name) else {
            return Err(refuse(&self.path, format!("it has no tensor `{name}`")));
        };
        let (file, storage) = &self.storages[*storage];
        let file = &self.files[*file];
        let bytes = layout.gather(storage.bytes(file.bytes()));
        let bytes = bytes.map_err(|what| refuse(file.path(), format!("tensor `{name}` {what}")))?;
        Ok(RawTensor { dtype: layout.dtype, shape: layout.shape.clone(), bytes })
    }

    /// The number of values of the tensor `name`; `None` if there is no such tensor.
    pub fn num_values(&self, name: &str) -> Option<usize> {
        self.tensors.get(name).map(|(layout, _)| layout.len())
    }

    /// The SHA-256 of every file, in hexadecimal digits. Reads the files whole.
    pub fn sha256(&self) -> Vec<(&Path, String)> {
        let digest = |file: &FileMap| hexadecimal(&Sha256::digest(file.bytes()));
        self.files.iter().map(|file| (file.path(), digest(file))).collect()
    }

    /// One SHA-256 for all files: that of the file, or, for several files, that of their concatenated SHA-256s.
    pub fn fingerprint(&self) -> String {
        match self.sha256().as_slice() {
            [(_, digest)] => digest.clone(),
            digests => hexadecimal(&Sha256::digest(digests.iter().map(|(_, digest)| digest.as_str()).collect::<String>())),
        }
    }

    /// Adds the tensors of the parts that the index at `path` lists.
    fn add_parts(&mut self, path: &Path) -> Result<()> {
        let index = read_json(path)?;
        let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
            return Err(refuse(path, "is no index of weights: expected a JSON object with `weight_map`"));
        };
        let mut parts = BTreeSet::new();
        for (name, part) in map {
            let plain = part.as_str().filter(|part| Path::new(part).file_name().is_some_and(|file| file == *part));
            let Some(part) = plain else {
                return Err(refuse(
                    path,
                    format!("`weight_map.{name}`: expected the name of a file beside the index, got {part}"),
                ));
            };
            parts.insert(part);
        }
        for part in parts {
            let part = path.with_file_name(part);
            if part.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
                return Err(refuse(path, format!("lists {}, which is no weights file", part.display())));
            }
            self.add(&part)?;
        }
        let listed = |name: &str| self.tensors.contains_key(name);
        match map.keys().find(|name| !listed(name)) {
            Some(name) => Err(refuse(path, format!("lists the tensor `{name}`, which its file does not have"))),
            None => Ok(()),
        }
    }

    /// Adds the tensors of one file.
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = FileMap::open(path)?;
        let number = self.files.len();
        let bytes = file.bytes();
        if let Some(what) = mixed_up(bytes) {
            return Err(refuse(path, what));
        }
        if torch::looks_like_torch(bytes) {
            let contents = torch::read(bytes).map_err(|what| refuse(path, what))?;
            self.values.extend(contents.values);
            let first = self.storages.len();
            self.storages.extend(contents.storages.into_iter().map(|storage| (number, storage)));
            for (name, (layout, storage)) in contents.tensors {
                self.insert(path, name, layout, first + storage)?;
            }
        } else {
            let contents = safetensors_file::read(bytes).map_err(|what| refuse(path, not_safetensors(path, bytes, what)))?;
            for (name, (layout, range)) in contents.tensors {
                self.storages.push((number, Storage::InFile(range)));
                self.insert(path, name, layout, self.storages.len() - 1)?;
            }
            self.metadata.extend(contents.metadata);
        }
        if let Some(Value::Object(texts)) = self.values.remove(TEXTS) {
            self.metadata.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text.as_str()?.to_string()))));
        }
        self.files.push(file);
        Ok(())
    }

    fn insert(&mut self, path: &Path, name: String, layout: Layout, storage: usize) -> Result<()> {
        if let Some((_, other)) = self.tensors.get(&name) {
            let other = self.files.get(self.storages[*other].0).map_or(path, FileMap::path);
            return Err(refuse(path, format!("has the tensor `{name}`, which {} has too", other.display())));
        }
        self.tensors.insert(name, (layout, storage));
        Ok(())
    }
}

impl TensorSource for WeightFiles {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(layout, _)| layout.shape.clone())
    }

    fn tensor(&self, name: &str, wanted: DType, device: &Device) -> Result<Tensor> {
        let RawTensor { dtype, shape, bytes } = self.raw(name)?;
        let dtype = match dtype {
            StoredDtype::F32 => DType::F32,
            StoredDtype::F16 => DType::F16,
            StoredDtype::Bf16 => DType::BF16,
            StoredDtype::F64 => DType::F64,
            other => {
                let what = format!("tensor `{name}` holds {other}; weights are float32, float16, bfloat16 or float64");
                return Err(refuse(self.file(name).unwrap_or(&self.path), what));
            }
        };
        if shape.contains(&0) {
            return Ok(Tensor::zeros(shape, wanted, device)?);
        }
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu)?.to_dtype(wanted)?.to_device(device)?)
    }
}

/// The error for a file that is neither a PyTorch file nor a safetensors file.
fn not_safetensors(path: &Path, bytes: &[u8], what: String) -> String {
    let named = |endings: &[&str]| path.extension().is_some_and(|e| endings.iter().any(|known| e.eq_ignore_ascii_case(known)));
    if bytes.is_empty() {
        return "is empty, so it is neither a PyTorch file nor a safetensors file; copy or download it again".into();
    }
    if named(&["pt", "pth", "bin", "ckpt"]) {
        return "is neither a PyTorch file of a supported kind (a zip archive, or its predecessor) nor a safetensors file; \
                copy it again, or save a state_dict with torch.save"
            .into();
    }
    what
}

fn in_folder(folder: &Path) -> Result<PathBuf> {
    if let Some(found) = IN_FOLDERS.iter().map(|name| folder.join(name)).find(|file| file.is_file()) {
        return Ok(found);
    }
    let io = |source| Error::Io { path: folder.to_path_buf(), source };
    let mut weights = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "safetensors" || e == "pt" || e == "pth" || e == "bin" || e == "ckpt") {
            weights.push(path);
        }
    }
    weights.sort();
    match weights.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(refuse(folder, format!("has no weights: expected a file such as {}", IN_FOLDERS[..3].join(", ")))),
        [first, second, ..] => Err(refuse(
            folder,
            format!(
                "has several weights files ({}, {}, …), none of them {}; name the file itself",
                first.file_name().unwrap_or_default().display(),
                second.file_name().unwrap_or_default().display(),
                IN_FOLDERS[0]
            ),
        )),
    }
}

/// A small JSON file, such as a configuration; `None` if it does not exist.
///
/// # Errors
///
/// As [`read_json`].
pub fn read_json_if_there(path: &Path) -> Result<Option<Value>> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}

/// A small JSON file, such as a configuration.
///
/// # Errors
///
/// If it cannot be read, is not JSON, or is far longer than such a file.
pub fn read_json(path: &Path) -> Result<Value> {
    let bytes = read_small(path)?;
    let text = latte_textfile::as_text(&bytes).map_err(|e| refuse(path, e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| refuse(path, format!("is no JSON: {e}")))
}

/// A small file. A large file is not read, whatever its name is.
///
/// # Errors
///
/// If it cannot be read, is far longer than such a file, is empty, or is clearly another file ([`mixed_up`]).
pub fn read_small(path: &Path) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
        return Err(refuse(path, format!("is longer than {MAX_BYTES} bytes, which no index, configuration or tokenizer is")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    if bytes.is_empty() {
        return Err(refuse(path, "is empty; copy or download it again"));
    }
    // A file whose name ends in `.gz` is meant to be compressed.
    let is_packed = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    match mixed_up(&bytes).filter(|_| !is_packed) {
        Some(what) => Err(refuse(path, what)),
        None => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_windows_is_read_and_other_encodings_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors.index.json");
        let text = "{\"weight_map\": {\n\"a\": \"b.safetensors\"}}\n";
        std::fs::write(&path, text).unwrap();
        let plain = read_json(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
        assert_eq!(read_json(&path).unwrap(), plain);
        std::fs::write(&path, text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()).unwrap();
        let said = read_json_if_there(&path).unwrap_err().to_string();
        assert!(said.ends_with("model.safetensors.index.json: it is UTF-16; save it as UTF-8"), "{said}");
    }
}
