//! Names the layers' parameters and collects the table of parameters.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;

use super::adaptation::{begins_with, ends_with};
use super::adapter::LowRankAdapter;
use super::table::InMemory;
use super::{Adaptation, Init, Param, ParameterSpec, ParameterTable};
use crate::{Error, Result};

/// A prefix of names, extended while a network is built. Every parameter that a layer requests is added to the table, in the order
/// of the requests.
#[derive(Debug)]
pub(crate) struct ParamScope<'b> {
    building: &'b RefCell<Building>,
    prefix: String,
}

/// The state of a build.
#[derive(Debug)]
struct Building {
    table: ParameterTable,
    /// After all others, so that adapters do not change the random draws of the rest.
    adapters: Vec<ParameterSpec>,
    adaptation: Adaptation,
    /// The prefixes to freeze and the adapter rules that matched a parameter or layer.
    used: BTreeSet<(&'static str, usize)>,
    problems: BTreeSet<String>,
}

const FREEZE: &str = "freeze";
const ADAPT: &str = "adapt";

impl ParamScope<'_> {
    /// The result of `build`, and all parameters that it requested.
    ///
    /// # Errors
    ///
    /// If `adaptation` names a parameter or layer that the network does not have.
    pub(crate) fn build<T>(
        adaptation: &Adaptation,
        build: impl FnOnce(&ParamScope<'_>) -> Result<T>,
    ) -> Result<(T, ParameterTable)> {
        let building = RefCell::new(Building {
            table: ParameterTable::default(),
            adapters: Vec::new(),
            adaptation: adaptation.clone(),
            used: BTreeSet::new(),
            problems: BTreeSet::new(),
        });
        let built = build(&ParamScope { building: &building, prefix: String::new() })?;
        Ok((built, building.into_inner().finish()?))
    }

    /// The scope of a submodule: `blocks`, `blocks.3` …
    pub(crate) fn within(&self, part: impl Display) -> ParamScope<'_> {
        ParamScope { building: self.building, prefix: self.name(&part.to_string()) }
    }

    fn name(&self, part: &str) -> String {
        if self.prefix.is_empty() { part.to_string() } else { format!("{}.{part}", self.prefix) }
    }

    /// The parameter `name` in this scope.
    pub(crate) fn param(&self, name: &str, shape: &[usize], init: Init) -> Param {
        self.reshaped(name, shape, shape, init)
    }

    /// A parameter with the shape `stored` in files and another shape in memory.
    pub(crate) fn reshaped(&self, name: &str, stored: &[usize], shape: &[usize], init: Init) -> Param {
        let part = self.record(name, stored, init);
        self.in_memory(name, shape, vec![part])
    }

    /// Adds a parameter of files to the table; returns its index.
    pub(super) fn record(&self, name: &str, shape: &[usize], init: Init) -> usize {
        let specs = &mut self.building.borrow_mut().table.specs;
        specs.push(ParameterSpec { name: self.name(name), shape: shape.to_vec(), init, frozen: false });
        specs.len() - 1
    }

    /// The parameter `name` in memory, concatenated from `parts` of the table.
    pub(super) fn in_memory(&self, name: &str, shape: &[usize], parts: Vec<usize>) -> Param {
        let (name, building) = (self.name(name), &mut *self.building.borrow_mut());
        let frozen = building.freeze(&name, &parts);
        let param = Param::new(&name, frozen.then(|| building.adaptation.packed.clone()));
        building.table.in_memory.push(InMemory { name, shape: shape.to_vec(), parts });
        param
    }

    /// The adapter of the linear layer `name`, if a rule matches. The layer consists of `parts`, each `[out, in]`.
    pub(super) fn adapter(&self, name: &str, parts: &[&str], [out, input]: [usize; 2]) -> Option<LowRankAdapter> {
        let (layer, building) = (self.name(name), &mut *self.building.borrow_mut());
        // The last matching rule applies.
        let (index, rule) = building.adaptation.adapters.iter().enumerate().rfind(|(_, rule)| ends_with(&layer, &rule.layer))?;
        let (rank, scale) = (rule.rank, rule.scale);
        building.used.insert((ADAPT, index));
        if rank == 0 || !scale.is_finite() {
            let what = format!("`{}`: expected a rank of at least 1 and a finite scale, got {rank} and {scale}", rule.layer);
            building.problems.insert(what);
        }
        let parts = parts.iter().map(|part| {
            [("A", [rank, input], Init::Uniform { summed: input }), ("B", [out, rank], Init::Zeros)].map(|(half, shape, init)| {
                let name = self.name(&format!("{part}.lora_{half}.weight"));
                let param = Param::new(&name, None);
                building.adapters.push(ParameterSpec { name, shape: shape.to_vec(), init, frozen: false });
                param
            })
        });
        Some(LowRankAdapter::new(parts.collect(), scale))
    }
}

impl Building {
    /// Whether the parameter `name`, made of `parts`, is frozen; marks its parts.
    fn freeze(&mut self, name: &str, parts: &[usize]) -> bool {
        let mut frozen = false;
        for (index, prefix) in self.adaptation.frozen.iter().enumerate() {
            let hits = parts.iter().filter(|&&part| begins_with(&self.table.specs[part].name, prefix)).count();
            if hits == parts.len() || begins_with(name, prefix) {
                self.used.insert((FREEZE, index));
                frozen = true;
            } else if hits > 0 {
                self.used.insert((FREEZE, index));
                self.problems
                    .insert(format!("`{prefix}` is only a part of `{name}`; expected all of its parts, or none, to be frozen"));
            }
        }
        for &part in parts {
            self.table.specs[part].frozen = frozen;
        }
        frozen
    }

    fn finish(mut self) -> Result<ParameterTable> {
        let frozen = self.adaptation.frozen.iter().map(|prefix| (FREEZE, prefix)).enumerate();
        let adapters = self.adaptation.adapters.iter().map(|rule| (ADAPT, &rule.layer)).enumerate();
        for (index, (key, name)) in frozen.chain(adapters) {
            if !self.used.contains(&(key, index)) {
                let what = if key == FREEZE { "no parameter begins with" } else { "no linear layer ends with" };
                self.problems.insert(format!("{what} `{name}`"));
            }
        }
        if !self.problems.is_empty() {
            return Err(Error::config("adaptation", self.problems.into_iter().collect::<Vec<_>>().join("; ")));
        }
        for spec in self.adapters {
            let (name, shape, place) = (spec.name.clone(), spec.shape.clone(), self.table.specs.len());
            self.table.in_memory.push(InMemory { name, shape, parts: vec![place] });
            self.table.specs.push(spec);
        }
        Ok(self.table)
    }
}
