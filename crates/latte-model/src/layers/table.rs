//! All parameters of a network: names, shapes and initial values as in files, and their form in memory.

use std::collections::BTreeSet;

use candle_core::Tensor;
use latte_ops::Parameters;

use super::ParameterSpec;
use crate::noise::TorchRng;
use crate::weights::{TensorSource, expect_tensor, misfits};
use crate::{Error, Result};

/// The parameters of a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct ParameterTable {
    /// As in files. Their order is that of the random draws of initial values, so it determines the weights of a seed.
    pub(super) specs: Vec<ParameterSpec>,
    pub(super) in_memory: Vec<InMemory>,
}

/// A parameter in memory: one parameter of a file, or several concatenated ones.
#[derive(Debug, Clone)]
pub(super) struct InMemory {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The indices in [`ParameterTable::specs`] of its parts, along the first axis.
    pub(super) parts: Vec<usize>,
}

impl ParameterTable {
    /// All parameters, as in files.
    pub(crate) fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The names in memory of the parameters that training updates.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = &str> {
        let trainable = |parameter: &&InMemory| parameter.parts.iter().all(|&part| self.specs[part].is_trainable());
        self.in_memory.iter().filter(trainable).map(|parameter| parameter.name.as_str())
    }

    /// Draws the initial values of all parameters.
    pub(crate) fn draw(&self, rng: &mut TorchRng) -> Result<Parameters> {
        // In their own memory, because training updates them in place.
        self.collect(|spec| Ok(spec.draw(rng)?.copy()?))
    }

    /// Reads all parameters from `source`, which must hold them with their shapes.
    pub(crate) fn read(&self, source: &dyn TensorSource) -> Result<Parameters> {
        self.collect(|spec| Ok(expect_tensor(source, &spec.name, &spec.shape)?))
    }

    /// The same parameters sorted by name, which is then the order of the draws.
    pub(crate) fn in_order_of_names(mut self) -> Self {
        let mut order: Vec<usize> = (0..self.specs.len()).collect();
        order.sort_by(|&a, &b| self.specs[a].name.cmp(&self.specs[b].name));
        for parameter in &mut self.in_memory {
            for part in &mut parameter.parts {
                *part = order.iter().position(|place| place == part).unwrap_or(*part);
            }
        }
        self.in_memory.sort_by(|a, b| a.name.cmp(&b.name));
        self.specs = order.into_iter().map(|place| self.specs[place].clone()).collect();
        self
    }

    /// Concatenates the parameters in memory from those of files.
    fn collect(&self, mut part: impl FnMut(&ParameterSpec) -> Result<Tensor>) -> Result<Parameters> {
        let mut parameters = Parameters::new();
        for InMemory { name, shape, parts } in &self.in_memory {
            let parts = parts.iter().map(|&index| part(&self.specs[index])).collect::<Result<Vec<_>>>()?;
            let whole = match parts.as_slice() {
                [one] => one.clone(),
                parts => Tensor::cat(parts, 0)?,
            };
            parameters.insert(name.clone(), whole.reshape(shape.as_slice())?);
        }
        Ok(parameters)
    }

    /// Splits joined parameters and returns all under their names in files: the inverse of [`read`](Self::read), for weights,
    /// gradients and moments. Parameters that `parameters` lacks are left out.
    ///
    /// # Errors
    ///
    /// If a tensor does not have the shape of its parameter in memory.
    pub(crate) fn separate(&self, parameters: &Parameters) -> Result<Parameters> {
        let mut separate = Parameters::new();
        for InMemory { name, shape, parts } in self.in_memory.iter().filter(|parameter| parameters.contains(&parameter.name)) {
            let whole = parameters.get(name)?.to_host()?;
            if whole.dims() != shape.as_slice() {
                return Err(Error::Shape { name: name.clone(), expected: format!("{shape:?}"), got: whole.dims().to_vec() });
            }
            if let [part] = parts.as_slice() {
                let spec = &self.specs[*part];
                separate.insert(spec.name.clone(), whole.reshape(spec.shape.as_slice())?);
                continue;
            }
            let mut start = 0;
            for &part in parts {
                let spec = &self.specs[part];
                let rows = spec.shape.first().copied().unwrap_or(1);
                separate.insert(spec.name.clone(), whole.narrow(0, start, rows)?.contiguous()?);
                start += rows;
            }
        }
        Ok(separate)
    }

    /// The differences between `source` and these parameters, as messages; positions and names that `is_known` accepts do not
    /// count.
    pub(crate) fn misfits(&self, source: &dyn TensorSource, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        let wanted = self.specs.iter().filter(|spec| !spec.is_position());
        let mut wrong = misfits(wanted.map(|spec| (spec.name.as_str(), spec.shape.as_slice())), source);
        let ours: BTreeSet<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
        let unknown = source.names().into_iter().filter(|name| !ours.contains(name.as_str()) && !is_known(name));
        wrong.extend(unknown.map(|name| format!("`{name}` is not known")));
        wrong
    }
}
