//! A set of named values: weights, their moving average, or an optimiser's moments.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::{Error, Result, Value};

/// Named values in the order of their names.
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
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Value> {
        self.values.get(name).ok_or_else(|| Error::MissingParameter(name.to_string()))
    }

    /// Whether there is a value called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Puts in or replaces a value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(name.into(), value.into());
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    /// All names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `tensor` where the values of this set are; as it is if there are none.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn beside(&self, tensor: &Tensor) -> Result<Value> {
        self.values.values().next().map_or_else(|| Ok(tensor.into()), |first| first.beside(tensor))
    }

    /// The same values on `device`. What is there already is shared.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.iter().map(|(name, value)| Ok((name.to_string(), value.to_device(device)?))).collect()
    }

    /// A set of the same values that shares no memory with this one, so that one may be updated in place.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn deep_copy(&self) -> Result<Self> {
        self.iter().map(|(name, value)| Ok((name.to_string(), value.deep_copy()?))).collect()
    }

    /// A set of zeros of the same names and shapes.
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
