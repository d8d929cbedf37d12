//! What training changes: weights, their moving average, the optimiser's moments, and how often.

use candle_core::Device;
use latte_ops::{AdamW, AdamWState, Parameters, adamw_ema};

use super::gradients::StepGradients;
use crate::config::OptimizerConfig;
use crate::error::{Error, Result};

/// The optimiser adds this to the norm before it divides by it, as PyTorch does.
const CLIP_EPS: f64 = 1e-6;

/// What training changes.
#[derive(Debug)]
pub struct TrainState {
    /// The weights, fixed positions included.
    pub weights: Parameters,
    /// Their moving average; fixed positions are the same.
    pub ema: Parameters,
    /// AdamW's first moments: one for each trainable parameter, and for no other.
    pub first_moments: Parameters,
    /// AdamW's second moments.
    pub second_moments: Parameters,
    /// Optimiser steps done.
    pub step: u64,
}

impl TrainState {
    /// The state before the first step: the average is a copy of the weights, the moments are zero. `trainable` names the
    /// parameters that have moments.
    ///
    /// # Errors
    ///
    /// If `weights` lacks one of them, or memory runs out.
    pub fn new(weights: &Parameters, trainable: &[String]) -> Result<Self> {
        let named = |name: &String| Ok((name.clone(), weights.get(name)?.clone()));
        let moments = trainable.iter().map(named).collect::<latte_ops::Result<Parameters>>()?.zeros_like()?;
        Ok(Self {
            weights: weights.deep_copy()?,
            ema: weights.deep_copy()?,
            second_moments: moments.deep_copy()?,
            first_moments: moments,
            step: 0,
        })
    }

    /// The same state on `device`, where its steps are taken from now on.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            weights: self.weights.to_device(device)?,
            ema: self.ema.to_device(device)?,
            first_moments: self.first_moments.to_device(device)?,
            second_moments: self.second_moments.to_device(device)?,
            step: self.step,
        })
    }

    /// The next optimiser step: clips the gradient, takes a step of AdamW with the learning rate `lr`, and lets the average follow.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] if the loss or the gradient's norm is no number, with the state as it was; or if a trainable parameter has
    /// no gradient: a network that does not use it, or an operation that lost it.
    pub fn take_step(&mut self, found: &StepGradients, config: &OptimizerConfig, lr: f64) -> Result<()> {
        let step = self.step + 1;
        for (what, value) in [("loss", found.loss), ("gradient norm", found.grad_norm)] {
            if !value.is_finite() {
                return Err(Error::Diverged { step, what: format!("the {what} is {value}"), checkpoint: None });
            }
        }
        self.update(&found.gradients, clip_scale(config, step, found.grad_norm), config, lr)
    }

    /// One AdamW step, in place, for every trainable parameter, weight decay included; the average follows.
    ///
    /// `gradient_scale` multiplies the gradient first (see [`clip_scale`]).
    ///
    /// # Errors
    ///
    /// If a trainable parameter has no gradient: a network that does not use it, or an operation that lost it.
    fn update(&mut self, gradients: &Parameters, gradient_scale: f64, config: &OptimizerConfig, lr: f64) -> Result<()> {
        if let Some((name, _)) = self.first_moments.iter().find(|(name, _)| !gradients.contains(name)) {
            return Err(Error::NoGradient(name.to_string()));
        }
        self.step += 1;
        let constants = AdamW {
            betas: (config.betas[0], config.betas[1]),
            eps: config.eps,
            weight_decay: config.weight_decay,
            ema_decay: config.ema_decay,
        };
        for (name, first_moment) in self.first_moments.iter() {
            let state = AdamWState {
                weight: self.weights.get(name)?,
                ema: self.ema.get(name)?,
                first_moment,
                second_moment: self.second_moments.get(name)?,
            };
            adamw_ema(&constants, lr, self.step, gradients.get(name)?, gradient_scale, &state)?;
        }
        Ok(())
    }
}

/// What the gradient of optimiser step `step` (counted from 1) is multiplied by, given its L2 norm: `max_grad_norm / norm` where
/// that is below 1, from the step after `start_clip_iter` on; else 1.
fn clip_scale(config: &OptimizerConfig, step: u64, grad_norm: f64) -> f64 {
    if config.max_grad_norm > 0.0 && step > config.start_clip_iter {
        (config.max_grad_norm / (grad_norm + CLIP_EPS)).min(1.0)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_begins_after_its_first_steps_and_never_lengthens_a_gradient() {
        let config = OptimizerConfig { max_grad_norm: 0.5, start_clip_iter: 10, ..OptimizerConfig::default() };
        assert_eq!(clip_scale(&config, 10, 5.0), 1.0);
        assert!((clip_scale(&config, 11, 5.0) - 0.1).abs() < 1e-6);
        assert_eq!(clip_scale(&config, 11, 0.1), 1.0);
        assert_eq!(clip_scale(&OptimizerConfig { max_grad_norm: 0.0, ..config }, 11, 5.0), 1.0);
    }
}
