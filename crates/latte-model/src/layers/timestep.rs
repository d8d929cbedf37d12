//! The embedding of the diffusion time.

use latte_ops::{Parameters, Tape, Var, silu};

use super::{Init, Linear, ParamScope, constant};
use crate::Result;
use crate::model::position::{Frequencies, TIMESTEP_WIDTH, timestep_sinusoid};

/// A sinusoid of the time, and two linear layers with SiLU between them.
#[derive(Debug, Clone)]
pub(crate) struct TimestepEmbedder {
    first: Linear,
    second: Linear,
    frequencies: Frequencies,
}

impl TimestepEmbedder {
    /// The layers `names`, on a sinusoid with these frequencies.
    pub(crate) fn new(scope: &ParamScope<'_>, names: [&str; 2], d: usize, init: Init, frequencies: Frequencies) -> Self {
        Self {
            first: Linear::new(scope, names[0], [d, TIMESTEP_WIDTH], init),
            second: Linear::new(scope, names[1], [d, d], init),
            frequencies,
        }
    }

    /// The embedding of each time, `[b, d]`.
    pub(crate) fn forward(&self, tape: &Tape<'_>, weights: &Parameters, timesteps: &[f64]) -> Result<Var> {
        let sinusoid = constant(tape, weights, &timestep_sinusoid(timesteps, self.frequencies)?)?; // [b, 256]
        let hidden = silu(tape, &self.first.forward(tape, weights, &sinusoid)?)?;
        self.second.forward(tape, weights, &hidden)
    }
}
