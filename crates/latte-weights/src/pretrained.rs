//! Finds a model's weights among what a checkpoint holds, and says whose they are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::files::{RawTensor, WeightFiles};
use super::refuse;
use super::source::TensorSource;
use super::stored::StoredDtype;
use crate::Result;

/// The parts of checkpoints that hold weights, the best first: the moving average, else the weights themselves.
const PARTS: [&str; 2] = ["ema", "model"];
/// The part that some trainers put everything else into.
const OUTER_PART: &str = "state_dict";
/// Before the names of the autoencoder in a file that holds a whole Stable Diffusion model.
pub const STABLE_DIFFUSION_AUTOENCODER: &str = "first_stage_model.";
/// Before the names of the denoiser there. That `model` is no part of a checkpoint.
const STABLE_DIFFUSION_DENOISER: &str = "model.diffusion_model.";
/// What wrappers put before every name: compiled modules anywhere in it, parallel ones at its beginning.
const COMPILED: &str = "_orig_mod.";
const PARALLEL: &str = "module.";
/// Names that older files have, and what they are called since.
const RENAMED: [(&str, &str); 1] = [("time_embed", "temp_embed")];

/// Whose weights a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightKind {
    /// A Latte, with classes or without.
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
    /// Several networks of a Stable Diffusion model in one file, each with a prefix of its own: the denoiser, the autoencoder
    /// ([`STABLE_DIFFUSION_AUTOENCODER`]) and text encoders. Some may be left out.
    StableDiffusion,
    /// None that is known.
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

/// The weights of one model in a checkpoint: of its parts, `ema` is taken if there is one, else `model` (either may lie in
/// `state_dict`), else everything. Of a whole Stable Diffusion model in one file everything is taken. Prefixes of compiled and parallel modules are dropped and old names replaced, so that names are
/// the model's.
#[derive(Debug)]
pub struct Pretrained {
    files: WeightFiles,
    part: Option<String>,
    /// The model's name of each tensor, and its name in the file.
    names: BTreeMap<String, String>,
    /// Tensors of other parts.
    num_left_out: usize,
}

impl Pretrained {
    /// Opens a checkpoint; `path` is taken as [`WeightFiles::open`] does.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or two tensors come to have one name.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(WeightFiles::open(path)?)
    }

    /// As [`Pretrained::open`], of files that are open.
    ///
    /// # Errors
    ///
    /// If two tensors come to have one name.
    pub fn new(files: WeightFiles) -> Result<Self> {
        let stored = files.names();
        let has = |prefix: &str| stored.iter().any(|name| name.starts_with(prefix));
        let outer = format!("{OUTER_PART}.");
        let outer = if has(&outer) { outer } else { String::new() };
        let is_whole = [STABLE_DIFFUSION_DENOISER, STABLE_DIFFUSION_AUTOENCODER].iter().any(|of| has(&format!("{outer}{of}")));
        let inner = PARTS.iter().map(|part| format!("{outer}{part}.")).find(|prefix| !is_whole && has(prefix));
        let prefix = inner.unwrap_or(outer);
        let mut names = BTreeMap::new();
        let mut num_left_out = 0;
        for name in stored {
            let Some(own) = name.strip_prefix(&prefix) else {
                num_left_out += 1;
                continue;
            };
            let own = plain_name(own);
            if let Some(other) = names.insert(own.clone(), name.clone()) {
                return Err(refuse(files.path(), format!("both `{other}` and `{name}` are called `{own}`")));
            }
        }
        let part = prefix.strip_suffix('.').map(ToString::to_string);
        Ok(Self { files, part, names, num_left_out })
    }

    /// The files.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// The part of the checkpoint that is taken, as `ema`; `None` if it has no parts.
    pub fn part(&self) -> Option<&str> {
        self.part.as_deref()
    }

    /// How many tensors lie in other parts.
    pub fn num_left_out(&self) -> usize {
        self.num_left_out
    }

    /// The type of the stored values of the tensor called `name`; `None` if there is none.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        self.files.dtype(self.names.get(name)?)
    }

    /// The tensor called `name` as it is stored.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn raw(&self, name: &str) -> Result<RawTensor<'_>> {
        self.files.raw(self.stored_name(name)?)
    }

    /// How many values there are, in all tensors.
    pub fn num_values(&self) -> usize {
        self.names.values().filter_map(|name| self.files.num_values(name)).sum()
    }

    /// How many tensors there are of each type of values.
    pub fn dtypes(&self) -> BTreeMap<StoredDtype, usize> {
        let mut counts = BTreeMap::new();
        for dtype in self.names.values().filter_map(|name| self.files.dtype(name)) {
            *counts.entry(dtype).or_default() += 1;
        }
        counts
    }

    /// Whose weights these are, judging by names.
    pub fn kind(&self) -> WeightKind {
        let has = |name: &str| self.names.contains_key(name);
        let any = |part: &str| self.names.keys().any(|name| name.contains(part));
        let begins = |with: &str| self.names.keys().any(|name| name.starts_with(with));
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

    fn stored_name(&self, name: &str) -> Result<&str> {
        let found = self.names.get(name).map(String::as_str);
        found.ok_or_else(|| refuse(self.files.path(), format!("there is no tensor `{name}` in it")))
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

/// A name without what wrappers put into it.
fn plain_name(name: &str) -> String {
    let name = name.replace(COMPILED, "");
    let mut rest = name.as_str();
    while let Some(inner) = rest.strip_prefix(PARALLEL) {
        rest = inner;
    }
    let new = RENAMED.iter().find(|(old, _)| *old == rest).map_or(rest, |(_, new)| *new);
    new.to_string()
}
