//! What the passes of an optimiser step give.

use latte_ops::Parameters;

use crate::run::loss_parts::LossParts;

/// The loss of one optimiser step and its gradient.
#[derive(Debug)]
pub struct StepGradients {
    /// By parameter name; of the mean loss over all clips.
    pub gradients: Parameters,
    /// The L2 norm of all gradients together, not clipped.
    pub grad_norm: f64,
    /// The mean loss over all clips, without loss weights.
    pub loss: f64,
    /// The parts of the loss, each a mean over all clips.
    pub parts: LossParts,
    /// The loss of each clip, in order; empty where a task does not tell them apart.
    pub clip_losses: Vec<f64>,
}
