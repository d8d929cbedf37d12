//! The state of a stopped run: its progress, x, and the memory of its solver.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::{Error, Result};

/// A solver's memory: tensors and integers, by name.
#[derive(Debug, Clone, Default)]
pub struct SavedState {
    /// Predictions and latents in the dtype of x, noise levels in f64.
    pub tensors: BTreeMap<String, Tensor>,
    /// Orders, and numbers of remembered predictions.
    pub numbers: BTreeMap<String, usize>,
}

impl SavedState {
    pub(super) fn set(&mut self, name: impl Into<String>, tensor: &Tensor) {
        self.tensors.insert(name.into(), tensor.clone());
    }

    pub(super) fn set_optional(&mut self, name: &str, tensor: Option<&Tensor>) {
        if let Some(tensor) = tensor {
            self.set(name, tensor);
        }
    }

    pub(super) fn set_number(&mut self, name: impl Into<String>, number: usize) {
        self.numbers.insert(name.into(), number);
    }

    /// The tensor `name`, if it was saved.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.get(name).ok_or_else(|| missing(name))
    }

    pub(super) fn number(&self, name: &str) -> Result<usize> {
        self.numbers.get(name).copied().ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> Error {
    Error::config("saved state", format!("`{name}` is missing: it is the state of another method, or damaged"))
}

/// The state of a stopped run, to resume with a solver of the same configuration.
#[derive(Debug, Clone)]
pub struct SamplingState {
    /// Calls done.
    pub done: usize,
    /// The number of all calls.
    pub num_steps: usize,
    /// x after the last call, `[b, f, c, h, w]`.
    pub x: Tensor,
    /// The solver's memory.
    pub solver: SavedState,
}

impl SamplingState {
    /// Checks that it can be the state of a run of `num_steps` calls.
    pub(super) fn check(&self, num_steps: usize) -> Result<()> {
        if self.num_steps != num_steps || self.done > num_steps {
            let what = format!(
                "it is after prediction {} of a run of {}, and this run has {num_steps}: expected the state of a run with the same \
                 settings",
                self.done, self.num_steps
            );
            return Err(Error::config("saved state", what));
        }
        Ok(())
    }
}
