//! Convolutions of frames and the norms before them, for inference with weights that are prepared once and for training with
//! weights that change.

use std::sync::Arc;

use latte_ops::{Convolution, ConvolutionWeights, GroupNorm, Normalisation, Parameters, Tape, Var, convolution, group_norm};

use crate::layers::Param;
use crate::{Error, Result};

/// The arguments of a pass through an autoencoder, besides its layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'w> {
    /// The weights, for layers that hold none.
    weights: Option<&'w Parameters>,
    /// Whether a gradient may be wanted. It is determined once, from the tape of the whole pass: a checkpointed segment first runs
    /// on a tape that does not record, and must compute the same values.
    pub(super) records: bool,
}

impl<'w> Pass<'w> {
    /// A pass with the weights that the layers hold.
    pub(super) const PREPARED: Pass<'static> = Pass { weights: None, records: false };

    /// A pass with `weights`, on `tape`.
    pub(super) fn of(tape: &Tape<'_>, weights: &'w Parameters) -> Self {
        Self { weights: Some(weights), records: tape.is_recording() }
    }

    /// The weights, for layers that hold none.
    pub(super) fn weights(&self) -> Result<&'w Parameters> {
        self.weights.ok_or_else(|| Error::config("autoencoder", "was built without weights, and none are given"))
    }
}

/// The source of a norm's statistics.
pub(super) trait Statistics {
    /// The normalisation of `norm` for `x`; `None` if the statistics are not known yet, which ends the layer.
    fn of(&mut self, tape: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>>;
}

/// A frame, and the normalisation that a convolution applies first.
pub(super) struct Normed {
    x: Var,
    norm: Option<Normalisation>,
}

impl Normed {
    /// The frame without the normalisation.
    pub(super) fn image(&self) -> &Var {
        &self.x
    }

    /// Applies the norm and a convolution with these weights to the frame.
    pub(super) fn through(&self, tape: &Tape<'_>, weights: &ConvolutionWeights, options: &Convolution<'_>) -> Result<Var> {
        Ok(convolution(tape, &self.x, weights, &Convolution { input: self.norm.as_ref(), ..*options })?)
    }
}

impl From<&Var> for Normed {
    fn from(x: &Var) -> Self {
        Self { x: x.clone(), norm: None }
    }
}

/// A convolution by name: of frames, or with a kernel `[out, in]` of 1 × 1.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub(super) weight: Param,
    pub(super) bias: Param,
    pub(super) prepared: Option<Arc<ConvolutionWeights>>,
}

impl Conv {
    /// Applies the convolution to `x`.
    pub(super) fn forward(&self, tape: &Tape<'_>, pass: Pass<'_>, x: &Var, options: &Convolution<'_>) -> Result<Var> {
        self.after(tape, pass, &x.into(), options)
    }

    /// Applies the norm and the convolution to a frame.
    pub(super) fn after(&self, tape: &Tape<'_>, pass: Pass<'_>, input: &Normed, options: &Convolution<'_>) -> Result<Var> {
        if let Some(prepared) = &self.prepared {
            return input.through(tape, prepared, options);
        }
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.on(tape, pass.weights()?));
        input.through(tape, &ConvolutionWeights::new(tape, &weight?, &bias?)?, options)
    }

    /// The weights, for a layer that exists only in inference.
    pub(super) fn ready(&self) -> Result<&ConvolutionWeights> {
        self.prepared.as_deref().ok_or_else(|| Error::config("autoencoder", "was built without weights"))
    }
}

/// A group norm by name.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) weight: Param,
    pub(super) bias: Param,
    pub(super) groups: usize,
    pub(super) eps: f64,
    pub(super) prepared: Option<GroupNorm>,
}

impl Norm {
    /// `x` with the norm, and with SiLU if `silu` is set, as the input of a convolution; `None` if the statistics are not known
    /// yet.
    ///
    /// Training and inference compute differently here, and therefore in attention. In inference the convolution applies the norm
    /// while it reads, which saves a tensor of the frame's size. Such a norm has no gradient, because its statistics depend on all
    /// pixels, so training computes the norm as a separate operation.
    pub(super) fn before(
        &self,
        tape: &Tape<'_>,
        pass: Pass<'_>,
        x: &Var,
        silu: bool,
        statistics: &mut dyn Statistics,
    ) -> Result<Option<Normed>> {
        let norm = match &self.prepared {
            Some(norm) => norm.clone(),
            None => {
                let [weight, bias] = [&self.weight, &self.bias].map(|param| param.on(tape, pass.weights()?));
                GroupNorm::new(&weight?, &bias?, self.groups, self.eps)?
            }
        };
        if pass.records {
            return Ok(Some(Normed { x: group_norm(tape, x, &norm, silu)?, norm: None }));
        }
        let norm = statistics.of(tape, &norm, x, silu)?;
        Ok(norm.map(|norm| Normed { x: x.clone(), norm: Some(norm) }))
    }

    /// The norm, for a layer that exists only in inference.
    pub(super) fn ready(&self) -> Result<&GroupNorm> {
        self.prepared.as_ref().ok_or_else(|| Error::config("autoencoder", "was built without weights"))
    }
}
