//! One step of an autoencoder's training: loss and gradients. It draws nothing.

use candle_core::{Tensor, Var as Leaf};
use latte_model::vae::{DiagonalGaussian, KlNetwork};
use latte_ops::{Parameters, Tape, add_assign, global_norm};

use super::config::{Reconstruction, VaeLossConfig};
use crate::config::ActivationCheckpointing;
use crate::engine::gradients::StepGradients;
use crate::error::{Error, Result};
use crate::run::loss_parts::LossParts;

/// Computes the gradient of an optimiser step.
#[derive(Debug)]
pub struct VaeStepper {
    /// The network.
    pub network: KlNetwork,
    /// The loss.
    pub loss: VaeLossConfig,
    /// Which activations are computed again in the backward pass.
    pub activation_checkpointing: ActivationCheckpointing,
}

impl VaeStepper {
    /// The gradient of the loss, and the loss. `noise` is used to sample the latents. The parts are `reconstruction`, the mean
    /// difference between frames, and `kl`, the divergence of a frame's latents from a standard normal distribution in nats, not
    /// weighted, averaged over frames.
    ///
    /// # Shapes
    ///
    /// `frames` `[n, 3, h, w]` in `[-1, 1]`; `noise` `[n, latent, h/s, w/s]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or memory runs out.
    pub fn gradients(&self, weights: &Parameters, frames: &Tensor, noise: &Tensor) -> Result<StepGradients> {
        let tape = || Tape::recording().with_recompute(self.activation_checkpointing == ActivationCheckpointing::Block);
        let frames = channels_last(frames)?; // [n, h, w, 3]
        let encoder = tape();
        let moments = self.network.encode(&encoder, weights, &encoder.constant(weights.beside(&frames)?))?; // [n, h/s, w/s, 2·latent]

        // Between encoder and decoder the tensor library's own autograd suffices: there are few values.
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
        // `kl_weight` relates sums over a frame; the reconstruction is a mean, so the divergence is divided by the same number of
        // values.
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
        let parts = LossParts::new([("reconstruction", Some(reconstruction)), ("kl", Some(kl))]);
        Ok(StepGradients { gradients, grad_norm, loss: reconstruction + kl_weight * kl, parts, clip_losses: Vec::new() })
    }
}

/// The mean difference between `back` and `frames` over all values, and its gradient with respect to `back`.
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
                // The subgradient at 0.
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
