//! Convolutions of frames and the norms before them, for both uses of an autoencoder: with weights that were prepared once, and
//! with weights that training changes.

use std::sync::Arc;

use latte_ops::{Convolution, ConvolutionWeights, GroupNorm, Normalisation, Parameters, Tape, Var, convolution, group_norm};

use crate::layers::Param;
use crate::{Error, Result};

/// What a pass through an autoencoder needs beside its layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'w> {
    /// The weights of layers that hold none.
    weights: Option<&'w Parameters>,
    /// Whether a gradient may be wanted. It is asked once, of the tape of the whole pass: a segment that runs again in the backward
    /// pass runs first on a tape that does not record, and must compute the same.
    pub(super) records: bool,
}

impl<'w> Pass<'w> {
    /// With the weights that layers hold.
    pub(super) const PREPARED: Pass<'static> = Pass { weights: None, records: false };

    /// With `weights`, on `tape`.
    pub(super) fn of(tape: &Tape<'_>, weights: &'w Parameters) -> Self {
        Self { weights: Some(weights), records: tape.is_recording() }
    }

    /// The weights of layers that hold none.
    pub(super) fn weights(&self) -> Result<&'w Parameters> {
        self.weights.ok_or_else(|| Error::config("autoencoder", "was built without weights, and none are given"))
    }
}

/// Where the statistics of a norm come from.
pub(super) trait Statistics {
    /// What `norm` comes down to for `x`; `None` if it is not known yet, which ends the layer.
    fn of(&mut self, tape: &Tape<'_>, norm: &GroupNorm, x: &Var, silu: bool) -> Result<Option<Normalisation>>;
}

/// A frame, and what a convolution has to do to it first.
pub(super) struct Normed {
    x: Var,
    norm: Option<Normalisation>,
}

impl Normed {
    /// The frame as it is.
    pub(super) fn image(&self) -> &Var {
        &self.x
    }

    /// The frame through its norm and a convolution of these weights.
    pub(super) fn through(&self, tape: &Tape<'_>, weights: &ConvolutionWeights, options: &Convolution<'_>) -> Result<Var> {
        Ok(convolution(tape, &self.x, weights, &Convolution { input: self.norm.as_ref(), ..*options })?)
    }
}

impl From<&Var> for Normed {
    fn from(x: &Var) -> Self {
        Self { x: x.clone(), norm: None }
    }
}

/// A convolution by name: of frames, or with a kernel `[out, in]` of single places.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub(super) weight: Param,
    pub(super) bias: Param,
    pub(super) prepared: Option<Arc<ConvolutionWeights>>,
}

impl Conv {
    /// `x` through the convolution.
    pub(super) fn forward(&self, tape: &Tape<'_>, pass: Pass<'_>, x: &Var, options: &Convolution<'_>) -> Result<Var> {
        self.after(tape, pass, &x.into(), options)
    }

    /// A frame through its norm and the convolution.
    pub(super) fn after(&self, tape: &Tape<'_>, pass: Pass<'_>, input: &Normed, options: &Convolution<'_>) -> Result<Var> {
        if let Some(prepared) = &self.prepared {
            return input.through(tape, prepared, options);
        }
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.on(tape, pass.weights()?));
        input.through(tape, &ConvolutionWeights::new(tape, &weight?, &bias?)?, options)
    }

    /// The weights, for a layer that inference alone has.
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
    /// `x`, normalised, with SiLU or without, as a convolution is to read it; `None` where the statistics are not known yet.
    ///
    /// Here, and in attention because of this, training and inference differ in how they compute: a norm that the convolution applies while it
    /// reads has no gradient, since its statistics depend on all places; it spares inference a tensor of the frame's size. Training
    /// needs the gradient, and that tensor for it.
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

    /// The norm, for a layer that inference alone has.
    pub(super) fn ready(&self) -> Result<&GroupNorm> {
        self.prepared.as_ref().ok_or_else(|| Error::config("autoencoder", "was built without weights"))
    }
}
