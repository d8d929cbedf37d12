//! Weights of detectors: imported once from a published file, then stored in a file of this program.
//!
//! Such a file has the tensors under one set of names, and metadata about the weights: `kind`, `source` (the name of the original
//! file), `sha256` (of that file) and `bn_eps`.

mod convert;
mod finite;
mod tensor_flow;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use latte_weights::{
    FileKind, PartChoice, Pretrained, RawTensor, StoredDtype, TensorSource, WeightFiles, all_fit, hexadecimal, misfits,
    write_weights,
};
use sha2::{Digest, Sha256};

use super::{Clip, Detector, Identity, Kind, Setup, Tokenizer, c3d, clip};
use crate::{Error, Result};
use convert::Converted;
use finite::Finite;
use tensor_flow::TensorFlowData;

/// Weights of a detector from a file of another program.
#[derive(Debug)]
pub struct Import {
    path: PathBuf,
    kind: Kind,
    identity: Identity,
    tensors: Converted,
    note: Option<String>,
}

/// Reads the weights of a detector from a file of any usual kind: TensorFlow's `….data-00000-of-00001` of I3D, PyTorch's pickles,
/// archives and TorchScript modules, safetensors, and `.npz`. The network is detected by the names of its tensors; `kind` requires
/// a particular one.
///
/// # Errors
///
/// If the file cannot be read, is damaged, or holds an unknown detector or another one than `kind`.
pub fn import(path: &Path, kind: Option<Kind>) -> Result<Import> {
    import_with_mean(path, kind, None)
}

/// As [`import`], with a second file, `mean`, that has the mean of the training clips, which C3D needs (`mean2.npz`): an array
/// `mean` `[3, 16, height, width]`, channels in the order blue, green, red. 112 rows and columns are used, after the first 8.
///
/// # Errors
///
/// Those of [`import`]; also if C3D is imported without a mean, or another network with one.
pub fn import_with_mean(path: &Path, kind: Option<Kind>, mean: Option<&Path>) -> Result<Import> {
    let file = |what: String| Error::File { path: path.to_path_buf(), what };
    let mut note = None;
    let (source, sha256): (Box<dyn TensorSource>, String) = match TensorFlowData::open(path)? {
        Some(data) => {
            let digest = hexadecimal(&Sha256::digest(data.bytes()));
            (Box::new(data), digest)
        }
        None => {
            let files = WeightFiles::open(path)?;
            if files.metadata().contains_key(KIND) {
                return Err(file("is a file of this program already; use it as it is".into()));
            }
            let digest = files.fingerprint();
            let choice = PartChoice { key: None, is_wanted: Some(&convert::is_detector) };
            let weights = Pretrained::choose(files, choice)?;
            note = weights.note();
            (Box::new(weights), digest)
        }
    };
    let mut tensors = Converted::new(source, kind).map_err(file)?;
    let found = tensors.kind();
    match (found, mean) {
        (Kind::C3d, Some(mean)) => tensors.give(c3d::MEAN, read_mean(mean)?),
        (Kind::Clip, None) => {
            // Texts also need the list of merges, which lies beside the weights.
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
            clip::check_activation(folder)?;
            if let Some(tokenizer) = Tokenizer::in_folder(folder)? {
                tensors.give(clip::MERGES, tokenizer.to_tensor()?);
            }
        }
        (Kind::C3d, None) => {
            return Err(file(
                "holds C3D, which takes clips less the mean of its training clips; give that file too (`mean2.npz`)".into(),
            ));
        }
        (_, None) => {}
        (other, Some(_)) => {
            return Err(file(format!("holds {}, which takes no mean of clips; leave that file out", other.name())));
        }
    }
    let specification = found.specification();
    let wrong = misfits(specification.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), &tensors);
    all_fit(found.name(), &wrong).map_err(file)?;
    let identity = Identity {
        kind: found.name().into(),
        source: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        weights: sha256,
        batch_norm_eps: found.batch_norm_eps(),
    };
    Ok(Import { path: path.to_path_buf(), kind: found, identity, tensors, note })
}

/// Reads the part of the mean that the network subtracts from clips.
fn read_mean(path: &Path) -> Result<Tensor> {
    let files = WeightFiles::open(path)?;
    let [channels, frames, height, width] = c3d::MEAN_SHAPE;
    let cut = c3d::MEAN_CUT;
    match files.shape(c3d::MEAN).as_deref() {
        Some(&[c, f, h, w]) if (c, f) == (channels, frames) && h >= cut + height && w >= cut + width => {
            let mean = files.f32_tensor(c3d::MEAN)?;
            Ok(mean.narrow(2, cut, height)?.narrow(3, cut, width)?.contiguous()?)
        }
        found => {
            let wanted = format!("[{channels}, {frames}, at least {}, at least {}]", cut + height, cut + width);
            let what = format!("expected an array `{}` {wanted}, got {found:?}", c3d::MEAN);
            Err(Error::File { path: path.to_path_buf(), what })
        }
    }
}

impl Import {
    /// The network and its weights.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which of several sets of weights was used, in words; `None` if there was only one.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Builds the detector.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read.
    pub fn build(&self, setup: Setup) -> Result<Box<dyn Detector>> {
        self.kind.build(&Finite::new(&self.path, &self.tensors), self.identity.clone(), setup)
    }

    /// Writes a file for [`open`], atomically.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read, or the disk fails.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut metadata = BTreeMap::from([
            (KIND.to_string(), self.identity.kind.clone()),
            (SOURCE.to_string(), self.identity.source.clone()),
            (SHA256.to_string(), self.identity.weights.clone()),
        ]);
        metadata.extend(self.identity.batch_norm_eps.map(|eps| (EPS.to_string(), eps.to_string())));
        let names = self.tensors.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tensors = Finite::new(&self.path, &self.tensors);
        let read = |name: &str| {
            let tensor = tensors.f32_tensor(name)?;
            let bytes: Vec<u8> = tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
            Ok(RawTensor { dtype: StoredDtype::F32, shape: tensor.dims().to_vec(), bytes: Cow::Owned(bytes) })
        };
        Ok(write_weights(path, &FileKind::Safetensors { metadata }, &names, &read)?)
    }
}

const KIND: &str = "kind";
const SOURCE: &str = "source";
const SHA256: &str = "sha256";
const EPS: &str = "bn_eps";

/// Opens the detector in a file that [`Import::save`] wrote.
///
/// # Errors
///
/// If the file cannot be read, is damaged, or is not a file of this program.
pub fn open(path: &Path, setup: Setup) -> Result<Box<dyn Detector>> {
    let (files, kind, identity) = open_file(path)?;
    kind.build(&Finite::new(path, &files), identity, setup)
}

/// The kind and identity of the weights in a file that [`Import::save`] wrote, without building the network; has the same errors as
/// [`open`].
///
/// # Errors
///
/// Those of [`open`].
pub fn identify(path: &Path, setup: Setup) -> Result<(Kind, Identity)> {
    let (files, kind, mut identity) = open_file(path)?;
    let tensors = Finite::new(path, &files);
    for (name, _) in kind.specification() {
        tensors.f32_tensor(&name)?;
    }
    identity.batch_norm_eps = kind.eps(&identity, setup);
    Ok((kind, identity))
}

/// As [`open`], for a file with CLIP, which also embeds texts.
///
/// # Errors
///
/// Those of [`open`]; also if the file holds another network.
pub fn open_clip(path: &Path, setup: Setup) -> Result<Clip> {
    let (files, kind, identity) = open_file(path)?;
    if kind != Kind::Clip {
        let what = format!("holds {}, which knows no texts; give the weights of {}", kind.name(), Kind::Clip.name());
        return Err(Error::File { path: path.to_path_buf(), what });
    }
    Clip::new(&Finite::new(path, &files), identity, setup.preparation.unwrap_or_else(|| kind.preparation()))
}

/// Opens a file that [`Import::save`] wrote, and reads its metadata.
fn open_file(path: &Path) -> Result<(WeightFiles, Kind, Identity)> {
    let file = |what: String| Error::File { path: path.to_path_buf(), what };
    let imported = "; bring weights of detectors into this program's form first: `latte eval import FILE --out OTHER`";
    if !path.is_dir() && TensorFlowData::open(path)?.is_some() {
        return Err(file(format!("is a file of TensorFlow{imported}")));
    }
    let files = WeightFiles::open(path)?;
    let text = |key: &str| files.metadata().get(key).map(String::as_str);
    let Some(name) = text(KIND) else { return Err(file(format!("does not say which detector it holds{imported}"))) };
    let known = || Kind::ALL.map(Kind::name).join(", ");
    let kind = Kind::from_name(name).ok_or_else(|| file(format!("holds the detector `{name}`; known are {}", known())))?;
    let eps = match text(EPS).map(str::parse::<f64>) {
        None => None,
        Some(Ok(eps)) if eps > 0.0 && eps < 1.0 => Some(eps),
        _ => return Err(file(format!("has no number between 0 and 1 for its `{EPS}`; import the weights again"))),
    };
    let specification = kind.specification();
    let wrong = misfits(specification.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), &files);
    all_fit(name, &wrong).map_err(file)?;
    let identity = Identity {
        kind: name.into(),
        source: text(SOURCE).unwrap_or("unknown").into(),
        weights: text(SHA256).map_or_else(|| files.fingerprint(), Into::into),
        batch_norm_eps: eps,
    };
    Ok((files, kind, identity))
}
