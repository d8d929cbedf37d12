//! One step of an autoencoder's training: loss and gradients. Nothing here draws anything.

use candle_core::{Tensor, Var as Leaf};
use latte_model::vae::{DiagonalGaussian, KlNetwork};
use latte_ops::{Parameters, Tape, add_assign, global_norm};

use super::config::{Reconstruction, VaeLossConfig};
use crate::config::{ActivationCheckpointing, OptimizerConfig};
use crate::engine::state::TrainState;
use crate::error::{Error, Result};

/// The loss and its gradient.
#[derive(Debug)]
pub struct VaeGradients {
    /// By parameter name.
    pub gradients: Parameters,
    /// The L2 norm of all gradients together, not clipped.
    pub grad_norm: f64,
    /// What is minimised.
    pub loss: f64,
    /// Its first part: the mean difference between frames.
    pub reconstruction: f64,
    /// The divergence of the latents of a frame from a standard normal distribution, in nats, not weighted; the mean over frames.
    pub kl: f64,
}

/// What one optimiser step does.
#[derive(Debug)]
pub struct VaeStepper {
    /// The network.
    pub network: KlNetwork,
    /// What is minimised.
    pub loss: VaeLossConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// What is computed twice to save memory.
    pub activation_checkpointing: ActivationCheckpointing,
}

impl VaeStepper {
    /// Loss, backward, clip, AdamW, moving average.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if the loss or the gradient is not finite; the state is then as it was.
    pub fn step(&self, state: &mut TrainState, frames: &Tensor, noise: &Tensor, lr: f64) -> Result<VaeGradients> {
        let found = self.gradients(&state.weights, frames, noise)?;
        state.take_step(&found.gradients, [found.loss, found.grad_norm], &self.optimizer, lr)?;
        Ok(found)
    }

    /// The gradient of the loss, and the loss. `noise` is what latents are drawn with.
    ///
    /// # Shapes
    ///
    /// `frames` `[n, 3, h, w]` in `[-1, 1]`; `noise` `[n, latent, h/s, w/s]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    pub fn gradients(&self, weights: &Parameters, frames: &Tensor, noise: &Tensor) -> Result<VaeGradients> {
        let tape = || Tape::recording().with_recompute(self.activation_checkpointing == ActivationCheckpointing::Block);
        let frames = channels_last(frames)?; // [n, h, w, 3]
        let encoder = tape();
        let moments = self.network.encode(&encoder, weights, &encoder.constant(weights.beside(&frames)?))?; // [n, h/s, w/s, 2·latent]

        // Between encoder and decoder the tensor library's own gradients do: few values, and the formulas as they are.
        let moments_leaf = Leaf::from_tensor(&channels_first(&moments.to_host()?)?)?; // [n, 2·latent, h/s, w/s]
        let gaussian = DiagonalGaussian::new(&moments_leaf)?;
        let latents = (gaussian.mode() + (gaussian.std()? * noise)?)?; // [n, latent, h/s, w/s]
        let kl = gaussian.divergence()?.mean_all()?; // []

        let decoder = tape();
        let decoder_input = decoder.input(weights.beside(&channels_last(&latents.detach())?)?);
        let back = self.network.decode(&decoder, weights, &decoder_input)?; // [n, h, w, 3]
        let (reconstruction, back_gradient) = difference(self.loss.reconstruction, &back.to_host()?, &frames)?;

        let found = decoder.backward(&back, weights.beside(&back_gradient)?)?;
        let latents_gradient = found.input(&decoder_input).ok_or_else(|| Error::NoGradient("latents".into()))?;
        let latents_gradient = channels_first(&latents_gradient.to_host()?)?; // [n, latent, h/s, w/s]
        // Summed over a frame, the two terms stand in the ratio of `kl_weight`; the first is a mean, so the second is divided too.
        let kl_weight = self.loss.kl_weight / (frames.elem_count() / frames.dim(0)?) as f64;
        let behind = ((&latents * latents_gradient)?.sum_all()? + (&kl * kl_weight)?)?; // []
        let moments_gradient = behind.backward()?.remove(&moments_leaf).ok_or_else(|| Error::NoGradient("moments".into()))?;
        let mut gradients = found.into_parameters()?;
        for (name, gradient) in
            encoder.backward(&moments, weights.beside(&channels_last(&moments_gradient)?)?)?.into_parameters()?
        {
            if gradients.contains(&name) {
                add_assign(gradients.get(&name)?, &gradient)?;
            } else {
                gradients.insert(name, gradient);
            }
        }
        let grad_norm = global_norm(gradients.iter().map(|(_, gradient)| gradient))?;
        let kl = f64::from(kl.to_scalar::<f32>()?);
        Ok(VaeGradients { gradients, grad_norm, loss: reconstruction + kl_weight * kl, reconstruction, kl })
    }
}

/// How far `back` is from `frames`, a mean over all values, and its gradient with respect to `back`.
fn difference(kind: Reconstruction, back: &Tensor, frames: &Tensor) -> Result<(f64, Tensor)> {
    let (back_values, frames) = (back.flatten_all()?.to_vec1::<f32>()?, frames.flatten_all()?.to_vec1::<f32>()?);
    let count = back_values.len() as f64;
    let mut sum = 0.0;
    let gradient: Vec<f32> = back_values
        .iter()
        .zip(&frames)
        .map(|(&back, &frame)| {
            let d = f64::from(back) - f64::from(frame);
            let (value, slope) = match kind {
                // Where they are equal there is no slope to speak of.
                Reconstruction::L1 => (d.abs(), if d == 0.0 { 0.0 } else { d.signum() }),
                Reconstruction::Mse => (d * d, 2.0 * d),
            };
            sum += value;
            (slope / count) as f32
        })
        .collect();
    Ok((sum / count, Tensor::from_vec(gradient, back.dims(), back.device())?))
}

/// `[n, c, h, w]` as `[n, h, w, c]`.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute((0, 2, 3, 1))?.contiguous()?)
}

/// `[n, h, w, c]` as `[n, c, h, w]`.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute((0, 3, 1, 2))?.contiguous()?)
}
