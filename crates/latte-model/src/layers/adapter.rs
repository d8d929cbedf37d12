//! Low-rank adapters of linear layers (LoRA, arXiv 2106.09685).

use latte_ops::{Parameters, Tape, Var, concat, gated_residual, linear, mul};

use super::Param;
use crate::{Result, host};

/// `scale · B(A x)`, which is added to the output of a linear layer; one pair of matrices for each part of the layer.
#[derive(Debug, Clone)]
pub(crate) struct LowRankAdapter {
    /// `A` `[r, in]` and `B` `[out, r]` of each part.
    parts: Vec<[Param; 2]>,
    scale: f64,
}

impl LowRankAdapter {
    pub(super) fn new(parts: Vec<[Param; 2]>, scale: f64) -> Self {
        Self { parts, scale }
    }

    /// `y + scale · B(A x)`.
    pub(super) fn onto(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, y: &Var) -> Result<Var> {
        let delta = self.delta(tape, weights, x)?;
        let scale = self.scale_like(tape, y, &[1, delta.dims()[delta.dims().len() - 1]])?;
        Ok(gated_residual(tape, y, &scale, &delta)?)
    }

    /// `y + gate · scale · B(A x)` with a gate `[g, out]`: adds the adapter to an output that is already gated.
    pub(super) fn gated_onto(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, gate: &Var, y: &Var) -> Result<Var> {
        let gate = mul(tape, gate, &self.scale_like(tape, y, gate.dims())?)?;
        Ok(gated_residual(tape, y, &gate, &self.delta(tape, weights, x)?)?)
    }

    fn scale_like(&self, tape: &Tape<'_>, y: &Var, shape: &[usize]) -> Result<Var> {
        Ok(tape.from_host(&host::full(self.scale as f32, shape)?, y.value())?)
    }

    /// `B(A x)` of all parts, concatenated.
    fn delta(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var) -> Result<Var> {
        let part = |[a, b]: &[Param; 2]| -> Result<Var> {
            let inner = linear(tape, x, &a.on(tape, weights)?, None)?; // […, r]
            Ok(linear(tape, &inner, &b.on(tape, weights)?, None)?)
        };
        let parts = self.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            parts => Ok(concat(tape, &parts.iter().collect::<Vec<_>>(), x.dims().len() - 1)?),
        }
    }
}
