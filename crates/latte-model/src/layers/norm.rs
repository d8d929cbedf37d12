//! Layer norms: with their own weights, or with shift and scale from a modulation.

use latte_ops::{Parameters, Tape, Var, layer_norm, modulated_layer_norm};

use super::{Init, Param, ParamScope};
use crate::{Error, Result};

/// A norm over the values of a token.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    /// Weight and bias `[d]`, if the norm has its own.
    parameters: Option<[Param; 2]>,
    eps: f64,
}

impl Norm {
    /// A norm whose shift and scale are arguments of each pass.
    pub(crate) fn modulated(eps: f64) -> Self {
        Self { parameters: None, eps }
    }

    /// The norm `name` with a weight and a bias of `d` values.
    pub(crate) fn affine(scope: &ParamScope<'_>, name: &str, d: usize, eps: f64) -> Self {
        let scope = scope.within(name);
        Self { parameters: Some([scope.param("weight", &[d], Init::Ones), scope.param("bias", &[d], Init::Zeros)]), eps }
    }

    /// `x` `[…, d]`, normalised. `modulation` is shift and scale, each `[g, d]`, and must be given exactly for a norm without
    /// weights.
    pub(crate) fn forward(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, modulation: Option<[&Var; 2]>) -> Result<Var> {
        match (&self.parameters, modulation) {
            (None, Some([shift, scale])) => Ok(modulated_layer_norm(tape, x, shift, scale, self.eps)?),
            (Some([weight, bias]), None) => {
                Ok(layer_norm(tape, x, &weight.on(tape, weights)?, &bias.on(tape, weights)?, self.eps)?)
            }
            (None, None) => Err(Error::config("injection", "a norm without weights needs a shift and a scale, got none")),
            (Some(_), Some(_)) => Err(Error::config("injection", "a norm with weights takes no shift and scale, got both")),
        }
    }
}
