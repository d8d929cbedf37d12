//! Two linear layers with GELU between them.

use latte_ops::{Parameters, Tape, Var};

use super::{Init, Linear, ParamScope};
use crate::Result;

/// An MLP with the tanh approximation of GELU.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    /// The layers `names`, from `input` through `hidden` to `out` values.
    pub(crate) fn new(scope: &ParamScope<'_>, names: [&str; 2], [input, hidden, out]: [usize; 3], init: Init) -> Self {
        Self {
            first: Linear::new(scope, names[0], [hidden, input], init),
            second: Linear::new(scope, names[1], [out, hidden], init),
        }
    }

    /// `[…, in]` to `[…, out]`.
    pub(crate) fn forward(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var) -> Result<Var> {
        self.second.forward(tape, weights, &self.first.gelu(tape, weights, x)?)
    }

    /// `residual + gate · mlp(x)`, as [`Linear::onto`].
    pub(crate) fn onto(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, residual: &Var, gate: Option<&Var>) -> Result<Var> {
        let hidden = self.first.gelu(tape, weights, x)?;
        self.second.onto(tape, weights, &hidden, residual, gate)
    }
}
