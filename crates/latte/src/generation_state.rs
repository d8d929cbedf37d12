//! The saved state of a clip that was stopped, as a file.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use latte_model::noise::{RngState, TorchRng};
use latte_model::sampling::{SamplingState, SavedState};
use latte_weights::refuse;
use latte_weights::{DESCRIPTION, FileKind, RawTensor, StoredDtype, TensorSource, WeightFiles, write_weights};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The result of work that can be stopped and resumed.
#[derive(Debug, Clone)]
pub enum Resumable<T> {
    /// The work is complete.
    Finished(T),
    /// The work was stopped and can be resumed from this state.
    Stopped(Box<GenerationState>),
}

impl<T> Resumable<T> {
    /// The result; `None` if the work was stopped.
    pub fn finished(self) -> Option<T> {
        match self {
            Self::Finished(made) => Some(made),
            Self::Stopped(_) => None,
        }
    }

    /// Transforms the result.
    pub(crate) fn map<U>(self, of: impl FnOnce(T) -> Result<U>) -> Result<Resumable<U>> {
        Ok(match self {
            Self::Finished(made) => Resumable::Finished(of(made)?),
            Self::Stopped(state) => Resumable::Stopped(state),
        })
    }
}

/// Everything that the rest of a clip depends on, besides the weights. With the same settings and weights, the resumed clip has the
/// same bits as one that was never stopped.
#[derive(Debug, Clone)]
pub struct GenerationState {
    /// The sampler's state.
    pub sampling: SamplingState,
    /// The state of the noise generator after the last draw.
    generator: RngState,
    /// The settings of the clip: the state resumes only this clip.
    settings: String,
}

/// The metadata of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    kind: String,
    done: usize,
    num_steps: usize,
    numbers: std::collections::BTreeMap<String, usize>,
    generator: RngState,
    settings: String,
}

const KIND: &str = "generation_state";
/// The names of x and of the solver's memory in the file.
const X: &str = "x";
const MEMORY: &str = "solver.";

impl GenerationState {
    pub(crate) fn new(sampling: SamplingState, generator: &TorchRng, settings: String) -> Self {
        Self { sampling, generator: generator.state(), settings }
    }

    /// The noise generator, for a clip with `settings`.
    pub(crate) fn generator(&self, settings: &str) -> Result<TorchRng> {
        if self.settings != settings {
            let what = format!("it belongs to another clip: expected {settings}, got {}", self.settings);
            return Err(Error::config("saved state", what));
        }
        Ok(TorchRng::from_state(&self.generator)?)
    }

    /// Writes a safetensors file. A failed write leaves no partial file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let SamplingState { done, num_steps, x, solver } = &self.sampling;
        let description = Description {
            kind: KIND.into(),
            done: *done,
            num_steps: *num_steps,
            numbers: solver.numbers.clone(),
            generator: self.generator.clone(),
            settings: self.settings.clone(),
        };
        let json = serde_json::to_string(&description).map_err(|e| refuse(path, format!("cannot be described: {e}")))?;
        let metadata = std::iter::once((DESCRIPTION.to_string(), json)).collect();
        let mut tensors = vec![(X.to_string(), x)];
        tensors.extend(solver.tensors.iter().map(|(name, tensor)| (format!("{MEMORY}{name}"), tensor)));
        let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        let read = |wanted: &str| match tensors.iter().find(|(name, _)| name == wanted) {
            Some((_, tensor)) => stored(tensor),
            None => Err(refuse(path, format!("there is no tensor `{wanted}` to write"))),
        };
        Ok(write_weights(path, &FileKind::Safetensors { metadata }, &names, &read)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is damaged, or is not such a file.
    pub fn load(path: &Path) -> Result<Self> {
        let files = WeightFiles::open(path)?;
        let wrong = |what: String| Error::from(refuse(path, format!("is not the saved state of a clip: {what}")));
        let description = files.description()?.ok_or_else(|| wrong("it has no description".into()))?;
        let description: Description = serde_json::from_value(description).map_err(|e| wrong(e.to_string()))?;
        if description.kind != KIND {
            return Err(wrong(format!("expected the kind {KIND}, got {}", description.kind)));
        }
        let mut solver = SavedState { numbers: description.numbers, ..SavedState::default() };
        let mut x = None;
        for name in files.names() {
            let tensor = read_tensor(&files.raw(&name)?).map_err(|what| wrong(format!("tensor `{name}` {what}")))?;
            match name.strip_prefix(MEMORY) {
                Some(name) => drop(solver.tensors.insert(name.to_string(), tensor)),
                None if name == X => x = Some(tensor),
                None => return Err(wrong(format!("tensor `{name}` is unknown"))),
            }
        }
        let x = x.ok_or_else(|| wrong(format!("tensor `{X}` is missing")))?;
        let sampling = SamplingState { done: description.done, num_steps: description.num_steps, x, solver };
        Ok(Self { sampling, generator: description.generator, settings: description.settings })
    }
}

/// A tensor of f64 or f32, bit for bit.
fn stored(tensor: &Tensor) -> latte_weights::Result<RawTensor<'static>> {
    let flat = tensor.flatten_all()?;
    let (dtype, bytes): (_, Vec<u8>) = if tensor.dtype() == DType::F64 {
        (StoredDtype::F64, flat.to_vec1::<f64>()?.iter().flat_map(|v| v.to_le_bytes()).collect())
    } else {
        (StoredDtype::F32, flat.to_vec1::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect())
    };
    Ok(RawTensor { dtype, shape: tensor.dims().to_vec(), bytes: bytes.into() })
}

fn read_tensor(raw: &RawTensor<'_>) -> std::result::Result<Tensor, String> {
    let shape = raw.shape.as_slice();
    let made = match raw.dtype {
        StoredDtype::F64 => {
            let (values, _) = raw.bytes.as_chunks::<8>();
            let values: Vec<f64> = values.iter().map(|v| f64::from_le_bytes(*v)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        StoredDtype::F32 => {
            let (values, _) = raw.bytes.as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        other => return Err(format!("has values of {other}, expected float32 or float64")),
    };
    made.map_err(|e| e.to_string())
}
