//! Finds a model's weights in a checkpoint, and says which kind of model they belong to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::files::WeightFiles;
use super::parts::{self, Chosen, PartChoice, STABLE_DIFFUSION_DENOISER};
use super::refuse;
use super::source::TensorSource;
use super::stored::{RawTensor, StoredDtype};
use crate::Result;

pub use super::parts::STABLE_DIFFUSION_AUTOENCODER;

/// The kind of model that the weights in a file belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightKind {
    /// A Latte, class-conditional or not.
    Latte,
    /// The text-to-video transformer (diffusers' `LatteTransformer3DModel`).
    LatteT2v,
    /// An image DiT.
    Dit,
    /// An autoencoder of the Stable Diffusion family.
    Autoencoder,
    /// An autoencoder whose decoder works across frames.
    TemporalAutoencoder,
    /// A T5 text encoder.
    T5,
    /// Several networks of a Stable Diffusion model in one file, each with its own prefix: the denoiser, the autoencoder
    /// ([`STABLE_DIFFUSION_AUTOENCODER`]) and text encoders. Some may be missing.
    StableDiffusion,
    /// No known model.
    Unknown,
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latte => "a Latte",
            Self::LatteT2v => "a text-to-video Latte",
            Self::Dit => "an image DiT",
            Self::Autoencoder => "an autoencoder",
            Self::TemporalAutoencoder => "an autoencoder with a temporal decoder",
            Self::T5 => "a T5 text encoder",
            Self::StableDiffusion => "a Stable Diffusion model in one file",
            Self::Unknown => "tensors of no known model",
        })
    }
}

/// The weights of one model in a checkpoint: the average if there is one, else the weights themselves, under any keys and with any
/// wrappers in front of their names (`parts.rs`). For a whole Stable Diffusion model in one file, all tensors. Old names are
/// replaced, so the names are the model's.
#[derive(Debug)]
pub struct Pretrained {
    files: WeightFiles,
    part: Option<String>,
    is_average: bool,
    /// The model's name of each tensor, and its name in the file.
    names: BTreeMap<String, String>,
    /// A note on the choice among several sets.
    note: Option<String>,
}

impl Pretrained {
    /// Opens a checkpoint; `path` may be what [`WeightFiles::open`] accepts.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or those of [`choose`](Self::choose).
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(WeightFiles::open(path)?)
    }

    /// As [`Pretrained::open`], for files that are open.
    ///
    /// # Errors
    ///
    /// Those of [`choose`](Self::choose).
    pub fn new(files: WeightFiles) -> Result<Self> {
        Self::choose(files, PartChoice::default())
    }

    /// The set of weights in `files` that `choice` selects.
    ///
    /// # Errors
    ///
    /// If there is none, or two tensors get the same name.
    pub fn choose(files: WeightFiles, choice: PartChoice<'_>) -> Result<Self> {
        let is_known = |names: &BTreeMap<String, String>| kind_of(names) != WeightKind::Unknown;
        let chosen = parts::choose(&files.names(), choice, &is_known).map_err(|what| refuse(files.path(), what))?;
        let Chosen { set, note } = chosen;
        let part = (!set.path.is_empty()).then_some(set.path);
        Ok(Self { files, part, is_average: set.is_average, names: set.names, note })
    }

    /// The files.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// The path of the chosen set, such as `ema`; `None` if the checkpoint has no parts.
    pub fn part(&self) -> Option<&str> {
        self.part.as_deref()
    }

    /// Whether these are averaged weights, judging by the part's name.
    pub fn is_average(&self) -> bool {
        self.is_average
    }

    /// Which of several sets of weights was chosen and which were not, in words; `None` if there was only one.
    pub fn choice(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// [`choice`](Self::choice) with the path in front.
    pub fn note(&self) -> Option<String> {
        self.choice().map(|choice| format!("{}: {choice}", self.files.path().display()))
    }

    /// The number of tensors in other sets.
    pub fn num_left_out(&self) -> usize {
        self.files.names().len() - self.names.len()
    }

    /// The dtype of the stored values of the tensor `name`; `None` if there is no such tensor.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        self.files.dtype(self.names.get(name)?)
    }

    /// The tensor `name` as it is stored.
    ///
    /// # Errors
    ///
    /// If there is no such tensor.
    pub fn raw(&self, name: &str) -> Result<RawTensor<'_>> {
        self.files.raw(self.stored_name(name)?)
    }

    /// The number of values in all tensors.
    pub fn num_values(&self) -> usize {
        self.names.values().filter_map(|name| self.files.num_values(name)).sum()
    }

    /// The number of tensors of each dtype.
    pub fn dtypes(&self) -> BTreeMap<StoredDtype, usize> {
        let mut counts = BTreeMap::new();
        for dtype in self.names.values().filter_map(|name| self.files.dtype(name)) {
            *counts.entry(dtype).or_default() += 1;
        }
        counts
    }

    /// The kind of model that the weights belong to, judging by names.
    pub fn kind(&self) -> WeightKind {
        kind_of(&self.names)
    }

    /// The tensors with values that are not finite: each with the number of such values, and its number of values. Reads all
    /// tensors.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be read.
    pub fn not_finite(&self) -> Result<Vec<(String, usize, usize)>> {
        let mut found = Vec::new();
        for (name, stored) in &self.names {
            let count = self.files.raw(stored)?.num_not_finite();
            if count > 0 {
                found.push((name.clone(), count, self.files.num_values(stored).unwrap_or_default()));
            }
        }
        Ok(found)
    }

    fn stored_name(&self, name: &str) -> Result<&str> {
        let found = self.names.get(name).map(String::as_str);
        found.ok_or_else(|| refuse(self.files.path(), format!("it has no tensor `{name}`")))
    }
}

impl TensorSource for Pretrained {
    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.files.shape(self.names.get(name)?)
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.files.tensor(self.stored_name(name)?, dtype, device)
    }
}

/// The kind of model whose weights have these names.
fn kind_of(names: &BTreeMap<String, String>) -> WeightKind {
    let has = |name: &str| names.contains_key(name);
    let any = |part: &str| names.keys().any(|name| name.contains(part));
    let begins = |with: &str| names.keys().any(|name| name.starts_with(with));
    if begins(STABLE_DIFFUSION_DENOISER) || begins(STABLE_DIFFUSION_AUTOENCODER) {
        WeightKind::StableDiffusion
    } else if has("transformer_blocks.0.scale_shift_table") && has("temporal_transformer_blocks.0.scale_shift_table") {
        WeightKind::LatteT2v
    } else if has("x_embedder.proj.weight") && has("blocks.0.attn.qkv.weight") {
        if has("temp_embed") { WeightKind::Latte } else { WeightKind::Dit }
    } else if has("decoder.conv_in.weight") && has("decoder.conv_out.weight") {
        if any("temporal_res_block") { WeightKind::TemporalAutoencoder } else { WeightKind::Autoencoder }
    } else if any("block.0.layer.0.SelfAttention.q.weight") {
        WeightKind::T5
    } else {
        WeightKind::Unknown
    }
}
