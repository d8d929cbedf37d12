//! Gradients: how contributions are added up, and the result of a backward pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Target, Var};
use crate::{Result, Value, backend};

/// A gradient, and whether nothing else holds its memory (then further contributions are added in place).
#[derive(Debug)]
pub(crate) struct Gradient {
    pub(crate) value: Value,
    owned: bool,
}

impl Gradient {
    /// A gradient whose memory nothing else holds.
    pub(crate) fn owned(value: impl Into<Value>) -> Self {
        Self { value: value.into(), owned: true }
    }

    /// A gradient whose memory other values may share.
    pub(crate) fn shared(value: impl Into<Value>) -> Self {
        Self { value: value.into(), owned: false }
    }

    /// `value`, which may share this gradient's memory, with the same ownership.
    pub(crate) fn become_of(&self, value: impl Into<Value>) -> Self {
        Self { value: value.into(), owned: self.owned }
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        let backend = backend::of([&self.value, &other.value]);
        self.value = backend.add_gradient(&self.value, &other.value, self.owned)?;
        self.owned = true;
        Ok(())
    }
}

/// The gradients of a backward pass.
#[derive(Debug)]
pub struct Gradients {
    pub(super) nodes: Vec<Option<Gradient>>,
    pub(super) parameters: BTreeMap<Arc<str>, Gradient>,
}

impl Gradients {
    /// The gradient of the parameter called `name`; `None` if it was not used.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.parameters.get(name).map(|g| &g.value)
    }

    /// The gradient of a [`Tape::input`](crate::Tape::input); `None` if it was not used.
    pub fn input(&self, input: &Var) -> Option<&Value> {
        match input.target {
            Target::Node(index) => self.nodes.get(index)?.as_ref().map(|g| &g.value),
            Target::Nowhere | Target::Parameter(_) => None,
        }
    }

    /// The gradients of all parameters that were used, by name.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn into_parameters(self) -> Result<crate::Parameters> {
        // Each gets its own memory, so that the caller may add to it in place.
        self.parameters.into_iter().map(|(name, g)| Ok((name.to_string(), g.value.into_own(g.owned)?))).collect()
    }

    /// Adds a contribution to the gradient of `target`.
    pub(super) fn put(&mut self, target: &Target, gradient: Gradient) -> Result<()> {
        let slot = match target {
            Target::Nowhere => return Ok(()),
            Target::Node(index) => &mut self.nodes[*index],
            Target::Parameter(name) => {
                if let Some(held) = self.parameters.get_mut(name) {
                    return held.add(&gradient);
                }
                self.parameters.insert(name.clone(), gradient);
                return Ok(());
            }
        };
        match slot {
            Some(held) => held.add(&gradient)?,
            None => *slot = Some(gradient),
        }
        Ok(())
    }
}
