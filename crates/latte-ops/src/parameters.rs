//! A set of named values: weights, their moving average, or an optimiser's moments.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::{Error, Result, Value};

/// Named values, sorted by name.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    values: BTreeMap<String, Value>,
}

impl Parameters {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value called `name`.
    ///
    /// # Errors
    ///
    /// If there is no such value.
    pub fn get(&self, name: &str) -> Result<&Value> {
        self.values.get(name).ok_or_else(|| Error::MissingParameter(name.to_string()))
    }

    /// Whether there is a value called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Inserts a value, or replaces the one of this name.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(name.into(), value.into());
    }

    /// Removes and returns a value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    /// All names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `tensor` on the device of this set's values; unchanged if the set is empty.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn beside(&self, tensor: &Tensor) -> Result<Value> {
        self.values.values().next().map_or_else(|| Ok(tensor.into()), |first| first.beside(tensor))
    }

    /// The same values on `device`. Tensors that are already there are shared, not copied.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.iter().map(|(name, value)| Ok((name.to_string(), value.to_device(device)?))).collect()
    }

    /// A copy that shares no memory with this set, so that either may be updated in place.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn deep_copy(&self) -> Result<Self> {
        self.iter().map(|(name, value)| Ok((name.to_string(), value.deep_copy()?))).collect()
    }

    /// Zeros with the names and shapes of this set.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn zeros_like(&self) -> Result<Self> {
        self.iter().map(|(name, value)| Ok((name.to_string(), value.zeros_like()?))).collect()
    }
}

impl<V: Into<Value>> FromIterator<(String, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(iter: I) -> Self {
        Self { values: iter.into_iter().map(|(name, value)| (name, value.into())).collect() }
    }
}

impl IntoIterator for Parameters {
    type Item = (String, Value);
    type IntoIter = std::collections::btree_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}
