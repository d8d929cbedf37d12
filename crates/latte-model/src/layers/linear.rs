//! A linear layer: the only place where layers are joined, frozen and adapted.

use latte_ops::{
    Activation, Parameters, Tape, Var, activation, add, linear, linear_gated, linear_gelu, linear_low_precision, reshape,
};

use super::adapter::LowRankAdapter;
use super::{Init, Param, ParamScope};
use crate::Result;

/// `x · weightᵀ + bias`, with an optional adapter.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `[out, in]`, or a kernel over patches, whose axes after the first are those of a patch.
    weight: Param,
    bias: Option<Param>,
    adapter: Option<LowRankAdapter>,
}

impl Linear {
    /// The layer `name` with a weight `[out, in]` and a bias.
    pub(crate) fn new(scope: &ParamScope<'_>, name: &str, shape: [usize; 2], init: Init) -> Self {
        Self::joined(scope, name, &[name], shape, true, init)
    }

    /// Layers with the same input that are `parts` in files, each `[out, in]`, and one layer `name` in memory, so that one matmul
    /// computes all of them. Their outputs are concatenated.
    pub(crate) fn joined(
        scope: &ParamScope<'_>,
        name: &str,
        parts: &[&str],
        [out, input]: [usize; 2],
        has_bias: bool,
        init: Init,
    ) -> Self {
        // PyTorch draws a bias by the rule of its weight; networks with their own rules start with biases of 0.
        let of_bias = if matches!(init, Init::Uniform { .. }) { init } else { Init::Zeros };
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for part in parts {
            weights.push(scope.record(&format!("{part}.weight"), &[out, input], init));
            if has_bias {
                biases.push(scope.record(&format!("{part}.bias"), &[out], of_bias));
            }
        }
        let all = parts.len() * out;
        Self {
            weight: scope.in_memory(&format!("{name}.weight"), &[all, input], weights),
            bias: has_bias.then(|| scope.in_memory(&format!("{name}.bias"), &[all], biases)),
            adapter: scope.adapter(name, parts, [out, input]),
        }
    }

    /// The layer `name` over patches: a convolution whose kernel `[out, …patch]` is as large as its stride. Its shape in memory is
    /// `kept`.
    pub(super) fn over_patches(scope: &ParamScope<'_>, name: &str, kernel: &[usize], kept: &[usize], init: Init) -> Self {
        Self {
            weight: scope.reshaped(&format!("{name}.weight"), kernel, kept, init),
            bias: Some(scope.param(&format!("{name}.bias"), &kernel[..1], Init::Zeros)),
            adapter: scope.adapter(name, &[name], [kernel[0], kernel[1..].iter().product()]),
        }
    }

    /// `[…, in]` to `[…, out]`.
    pub(crate) fn forward(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var) -> Result<Var> {
        let (weight, bias) = self.parameters(tape, weights)?;
        let y = linear(tape, x, &weight, bias.as_ref())?;
        match &self.adapter {
            Some(adapter) => adapter.onto(tape, weights, x, &y),
            None => Ok(y),
        }
    }

    /// [`forward`](Self::forward) for a result that only matmuls read.
    pub(crate) fn low_precision(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var) -> Result<Var> {
        if self.adapter.is_some() {
            // The sum is rounded by the matmul that reads it: once, as without an adapter.
            return self.forward(tape, weights, x);
        }
        let (weight, bias) = self.parameters(tape, weights)?;
        Ok(linear_low_precision(tape, x, &weight, bias.as_ref())?)
    }

    /// GELU of [`forward`](Self::forward), for a result that only matmuls read.
    pub(crate) fn gelu(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var) -> Result<Var> {
        if self.adapter.is_some() {
            return Ok(activation(tape, &self.forward(tape, weights, x)?, Activation::Gelu)?);
        }
        let (weight, bias) = self.parameters(tape, weights)?;
        Ok(linear_gelu(tape, x, &weight, bias.as_ref())?)
    }

    /// `residual + gate · layer(x)` with a gate `[g, out]`; without a gate, `residual + layer(x)`.
    pub(crate) fn onto(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, residual: &Var, gate: Option<&Var>) -> Result<Var> {
        let Some(gate) = gate else { return Ok(add(tape, residual, &self.forward(tape, weights, x)?)?) };
        let (weight, bias) = self.parameters(tape, weights)?;
        let y = linear_gated(tape, x, &weight, bias.as_ref(), residual, gate)?;
        match &self.adapter {
            Some(adapter) => adapter.gated_onto(tape, weights, x, gate, &y),
            None => Ok(y),
        }
    }

    /// The weight as a matrix, and the bias.
    pub(crate) fn parameters(&self, tape: &Tape<'_>, weights: &Parameters) -> Result<(Var, Option<Var>)> {
        let weight = self.weight.on(tape, weights)?;
        let weight = match *weight.dims() {
            [_, _] => weight,
            [out, ref patch @ ..] => reshape(tape, &weight, &[out, patch.iter().product()])?,
            [] => weight,
        };
        Ok((weight, self.bias.as_ref().map(|bias| bias.on(tape, weights)).transpose()?))
    }
}
