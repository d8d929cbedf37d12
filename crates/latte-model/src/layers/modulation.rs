//! Shifts, scales and gates of layers (adaLN), computed from a vector of timestep and condition.

use latte_ops::{Parameters, Tape, Var, add, narrow, reshape};

use super::{Init, Linear, Param, ParamScope};
use crate::Result;

/// Computes vectors of `d` values that modulate other layers.
#[derive(Debug, Clone)]
pub(crate) struct Modulation {
    source: Source,
    /// The number of vectors.
    count: usize,
    d: usize,
}

#[derive(Debug, Clone)]
enum Source {
    /// A linear layer: adaLN.
    Projection(Linear),
    /// A table `[count, d]` that is added to `count` vectors, which all blocks share: adaLN-single.
    Table(Param),
    /// A table `[count, d]`; the same vector is added to each of its rows.
    TableOfOne(Param),
}

/// The modulation of one layer and of its residual connection, each `[g, d]`.
#[derive(Debug)]
pub(crate) struct ShiftScaleGate {
    shift: Var,
    scale: Var,
    pub(crate) gate: Var,
}

impl ShiftScaleGate {
    /// Shift and scale.
    pub(crate) fn shift_scale(&self) -> [&Var; 2] {
        [&self.shift, &self.scale]
    }
}

impl Modulation {
    /// From `[g, d]` by the linear layer `name`, which is initialised with 0.
    pub(crate) fn projection(scope: &ParamScope<'_>, name: &str, [count, d]: [usize; 2]) -> Self {
        Self { source: Source::Projection(Linear::new(scope, name, [count * d, d], Init::Zeros)), count, d }
    }

    /// From `[g, count · d]` and the table `name`.
    pub(crate) fn table(scope: &ParamScope<'_>, name: &str, [count, d]: [usize; 2]) -> Self {
        Self { source: Source::Table(table(scope, name, [count, d])), count, d }
    }

    /// From `[g, d]` and the table `name`.
    pub(crate) fn table_of_one(scope: &ParamScope<'_>, name: &str, [count, d]: [usize; 2]) -> Self {
        Self { source: Source::TableOfOne(table(scope, name, [count, d])), count, d }
    }

    /// For attention and for an MLP: the first three and the last three of six vectors.
    pub(crate) fn for_block(&self, tape: &Tape<'_>, weights: &Parameters, vectors: &Var) -> Result<[ShiftScaleGate; 2]> {
        let six = self.forward::<6>(tape, weights, vectors)?;
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] = six;
        Ok([ShiftScaleGate { shift, scale, gate }, ShiftScaleGate { shift: mlp_shift, scale: mlp_scale, gate: mlp_gate }])
    }

    /// Shift and scale of a norm without gate.
    pub(crate) fn for_norm(&self, tape: &Tape<'_>, weights: &Parameters, vectors: &Var) -> Result<[Var; 2]> {
        self.forward::<2>(tape, weights, vectors)
    }

    /// The vectors, each `[g, d]`.
    fn forward<const N: usize>(&self, tape: &Tape<'_>, weights: &Parameters, vectors: &Var) -> Result<[Var; N]> {
        let (count, d) = (self.count, self.d);
        let all = match &self.source {
            Source::Projection(layer) => layer.forward(tape, weights, vectors)?, // [g, count·d]
            Source::Table(table) => add(tape, vectors, &reshape(tape, &table.on(tape, weights)?, &[1, count * d])?)?,
            Source::TableOfOne(table) => table.on(tape, weights)?, // [count, d]
        };
        let one = |i: usize| match &self.source {
            Source::TableOfOne(_) => add(tape, vectors, &narrow(tape, &all, 0, i, 1)?),
            Source::Projection(_) | Source::Table(_) => narrow(tape, &all, 1, i * d, d),
        };
        let found = (0..count).map(one).collect::<latte_ops::Result<Vec<_>>>()?;
        found
            .try_into()
            .map_err(|found: Vec<Var>| crate::Error::config("modulation", format!("expected {N} vectors, got {}", found.len())))
    }
}

/// Normally distributed with variance 1/d.
fn table(scope: &ParamScope<'_>, name: &str, [count, d]: [usize; 2]) -> Param {
    scope.param(name, &[count, d], Init::Normal { deviation: (d as f64).powf(-0.5) })
}
