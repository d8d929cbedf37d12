//! A set of named tensors: weights, their moving average, or an optimiser's moments.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// Named tensors in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Tensor>,
}

impl Parameters {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::MissingParameter(name.to_string()))
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Puts in or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// All names and tensors, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Where the tensors are: the device of the first; the CPU for an empty set.
    pub fn device(&self) -> Device {
        self.tensors.values().next().map_or(Device::Cpu, |tensor| tensor.device().clone())
    }

    /// The same values on `device`. Tensors that are there already are shared.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.iter().map(|(name, tensor)| Ok((name.to_string(), tensor.to_device(device)?))).collect()
    }

    /// A set of the same values that shares no memory with this one, so that one may be updated in place.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn deep_copy(&self) -> Result<Self> {
        self.iter().map(|(name, tensor)| Ok((name.to_string(), tensor.copy()?))).collect()
    }

    /// A set of zeros of the same names and shapes.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn zeros_like(&self) -> Result<Self> {
        // `Tensor::zeros_like` may share one allocation; `copy` gives each its own.
        self.iter().map(|(name, tensor)| Ok((name.to_string(), tensor.zeros_like()?.copy()?))).collect()
    }
}

impl FromIterator<(String, Tensor)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(iter: I) -> Self {
        Self { tensors: iter.into_iter().collect() }
    }
}

impl IntoIterator for Parameters {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}
