//! The gradient of one optimiser step: the loss over several passes.
//!
//! Nothing here draws: a [`MicroBatch`] has the noise and times. So the same function is used for training and for the comparison
//! with the reference.
//!
//! Shape letters: `b` batch, `f` frames, `c` channels, `h w` height and width.

use std::fmt;
use std::ops::Range;

use candle_core::{Tensor, Var as Leaf};
use latte_model::diffusion::Diffusion;
use latte_ops::{PackedWeightCache, Parameters, Precision, Tape, Var, add_assign, global_norm};

use crate::config::ActivationCheckpointing;
use crate::engine::gradients::StepGradients;
use crate::error::{Error, Result};
use crate::run::loss_parts::LossParts;

/// The clips of one forward and backward pass, after all random draws. `C` is the condition of the network, such as labels.
#[derive(Debug, Clone)]
pub struct MicroBatch<C> {
    /// `[b, f + num_images, c, h, w]`: clips, with the single images of each after its frames.
    pub latents: Tensor,
    /// Standard normal, of the same shape.
    pub noise: Tensor,
    /// `b` diffusion times.
    pub timesteps: Vec<usize>,
    /// The number of single images after the frames of each clip; 0 outside joint training.
    pub num_images: usize,
    /// The condition of the network.
    pub condition: C,
    /// `b` weights of the clips' losses (for times that are not drawn uniformly); `None` for 1.
    pub loss_weights: Option<Vec<f64>>,
}

/// The noisy latents that a network reads.
#[derive(Debug, Clone, Copy)]
pub struct Noisy<'t> {
    /// `[b, f + num_images, c, h, w]`.
    pub x: &'t Tensor,
    /// The diffusion time of each clip, which its images share.
    pub timesteps: &'t [f64],
    /// The number of single images after the frames of each clip.
    pub num_images: usize,
}

/// A network that predicts the target of a diffusion process.
pub trait Network: fmt::Debug {
    /// Its condition besides the latents, for the clips of one pass.
    type Condition: Condition;

    /// The prediction, with the shape of `noisy.x` or with twice the channels.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    fn predict<'a>(
        &'a self,
        tape: &Tape<'a>,
        weights: &'a Parameters,
        noisy: Noisy<'_>,
        condition: &Self::Condition,
    ) -> latte_model::Result<Var>;
}

/// The condition of a network for some clips.
pub trait Condition: Clone + fmt::Debug {
    /// The condition of the clips `clips` alone, with `num_images` images each.
    ///
    /// # Errors
    ///
    /// If there are no such clips.
    fn of_clips(&self, clips: Range<usize>, num_images: usize) -> Result<Self>;
}

/// Computes the gradient of an optimiser step.
#[derive(Debug)]
pub struct Stepper<N> {
    /// The network.
    pub model: N,
    /// The diffusion process with all its timesteps.
    pub diffusion: Diffusion,
    /// Which activations are computed again in the backward pass.
    pub activation_checkpointing: ActivationCheckpointing,
    /// The precision of matmuls.
    pub precision: Precision,
}

impl<N: Network> Stepper<N> {
    /// The gradient of the mean loss over all clips of `batches`, and the loss.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    pub fn gradients(&self, weights: &Parameters, batches: &[MicroBatch<N::Condition>]) -> Result<StepGradients> {
        let clips: usize = batches.iter().map(|batch| batch.timesteps.len()).sum();
        let mut sum: Option<Parameters> = None;
        let mut terms = Terms::default();
        // Weights do not change during a step: with several passes, each is packed once for all.
        let packed = (batches.len() > 1).then(PackedWeightCache::new);
        for batch in batches {
            let gradients = self.pass(weights, packed.as_ref(), batch, clips, &mut terms)?;
            sum = Some(match sum {
                None => gradients,
                Some(sum) => add(sum, gradients)?,
            });
        }
        let gradients = sum.unwrap_or_default();
        let grad_norm = global_norm(gradients.iter().map(|(_, gradient)| gradient))?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / clips as f64;
        let part = |values: &[f64]| (values.len() == clips).then(|| mean(values));
        Ok(StepGradients {
            gradients,
            grad_norm,
            loss: mean(&terms.loss),
            parts: LossParts::new([("mse", part(&terms.mse)), ("vb", part(&terms.vb))]),
            clip_losses: terms.loss,
        })
    }

    /// Forward and backward of one pass. Each clip's loss has the factor `weight / clips`, so the gradients of passes add up.
    fn pass(
        &self,
        weights: &Parameters,
        packed: Option<&PackedWeightCache>,
        batch: &MicroBatch<N::Condition>,
        clips: usize,
        terms: &mut Terms,
    ) -> Result<Parameters> {
        // The random draws and the loss are on the CPU; the network runs on the device of its weights.
        let MicroBatch { latents, noise, timesteps, .. } = batch;
        let x_t = self.diffusion.q_sample(latents, timesteps, noise)?; // [b, f + num_images, c, h, w]
        let tape = Tape::recording()
            .with_precision(self.precision)
            .with_recompute(self.activation_checkpointing == ActivationCheckpointing::Block);
        let tape = match packed {
            Some(packed) => tape.with_packed_weight_cache(packed),
            None => tape,
        };
        let times: Vec<f64> = timesteps.iter().map(|&t| t as f64).collect();
        let noisy = Noisy { x: &x_t, timesteps: &times, num_images: batch.num_images };
        let prediction = self.model.predict(&tape, weights, noisy, &batch.condition)?; // [b, f + num_images, c or 2c, h, w]

        // From here to the prediction's gradient the tensor library's own autograd suffices: the tensors are small, and any loss
        // works.
        let leaf = Leaf::from_tensor(&prediction.to_host()?)?;
        let loss = self.diffusion.loss(leaf.as_tensor(), latents, noise, &x_t, timesteps)?;
        let weight_of = |i: usize| batch.loss_weights.as_ref().map_or(1.0, |w| w[i]) / clips as f64;
        let loss_weights: Vec<f32> = (0..timesteps.len()).map(|i| weight_of(i) as f32).collect();
        let loss_weights = Tensor::new(loss_weights, latents.device())?; // [b]
        let weighted = (&loss.loss * loss_weights)?.sum_all()?; // []
        let gradient = weighted.backward()?.remove(&leaf).ok_or_else(|| Error::NoGradient("prediction".into()))?;
        terms.extend(&loss)?;
        // Free what the leaf and the loss hold before the backward pass needs memory.
        drop((loss, weighted, leaf, x_t));
        Ok(tape.backward(&prediction, weights.beside(&gradient)?)?.into_parameters()?)
    }
}

/// The parts of the loss per clip.
#[derive(Debug, Default)]
struct Terms {
    loss: Vec<f64>,
    mse: Vec<f64>,
    vb: Vec<f64>,
}

impl Terms {
    fn extend(&mut self, terms: &latte_model::diffusion::LossTerms) -> Result<()> {
        let values = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(candle_core::DType::F64)?.to_vec1()?) };
        self.loss.extend(values(&terms.loss)?);
        if let Some(mse) = &terms.mse {
            self.mse.extend(values(mse)?);
        }
        if let Some(vb) = &terms.vb {
            self.vb.extend(values(vb)?);
        }
        Ok(())
    }
}

/// Adds in place if both have a gradient.
fn add(mut sum: Parameters, more: Parameters) -> Result<Parameters> {
    for (name, gradient) in more {
        if sum.contains(&name) {
            add_assign(sum.get(&name)?, &gradient)?;
        } else {
            sum.insert(name, gradient);
        }
    }
    Ok(sum)
}
