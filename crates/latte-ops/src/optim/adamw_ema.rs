//! AdamW and the moving average of the weights, in one pass over the values.

use crate::{Result, Value, backend};

/// The constants of AdamW (arXiv 1711.05101) and of the exponential moving average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: each step multiplies the weights by `1 − learning_rate · weight_decay`.
    pub weight_decay: f64,
    /// Decay of the moving average of the weights.
    pub ema_decay: f64,
}

/// The tensors that one step of one parameter updates: all of one shape, contiguous, and each in its own memory.
#[derive(Debug, Clone, Copy)]
pub struct AdamWState<'t> {
    /// The weights.
    pub weight: &'t Value,
    /// Their moving average.
    pub ema: &'t Value,
    /// The first moment.
    pub first_moment: &'t Value,
    /// The second moment.
    pub second_moment: &'t Value,
}

/// Takes one AdamW step in place, and updates the moving average with the new weights.
///
/// `step` counts from 1; the gradient is first multiplied by `gradient_scale` (gradient clipping).
///
/// # Errors
///
/// If the shapes differ, a tensor is not contiguous or not f32, or the tensors are on different devices.
pub fn adamw_ema(
    constants: &AdamW,
    learning_rate: f64,
    step: u64,
    gradient: &Value,
    gradient_scale: f64,
    state: &AdamWState<'_>,
) -> Result<()> {
    let all = [state.weight, state.ema, state.first_moment, state.second_moment, gradient];
    if let Some(other) = all.iter().find(|value| value.dims() != state.weight.dims()) {
        return Err(crate::Error::shape("adamw_ema", format!("{:?}", state.weight.dims()), other.dims()));
    }
    let update = Update::new(constants, learning_rate, step, gradient_scale);
    backend::of(all).adamw_ema(&update, gradient, state)
}

/// The factors of one step, computed once in f64.
pub(crate) struct Update {
    pub(crate) gradient_scale: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) one_minus_beta2: f32,
    pub(crate) shrink: f32,
    pub(crate) step_size: f32,
    pub(crate) inverse_root_correction: f32,
    pub(crate) eps: f32,
    pub(crate) ema_decay: f32,
    pub(crate) one_minus_ema_decay: f32,
}

impl Update {
    fn new(constants: &AdamW, learning_rate: f64, step: u64, gradient_scale: f64) -> Self {
        let (beta1, beta2) = constants.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            gradient_scale: gradient_scale as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            shrink: (1.0 - learning_rate * constants.weight_decay) as f32,
            step_size: (learning_rate / correction(beta1)) as f32,
            inverse_root_correction: (1.0 / correction(beta2).sqrt()) as f32,
            eps: constants.eps as f32,
            ema_decay: constants.ema_decay as f32,
            one_minus_ema_decay: (1.0 - constants.ema_decay) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn two_steps_are_the_formula_by_hand() -> Result<()> {
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, ema_decay: 0.5 };
        let tensor = |v: f32| Ok::<_, crate::Error>(Value::from(Tensor::new(&[v], &Device::Cpu)?));
        let (weight, ema, first, second) = (tensor(1.0)?, tensor(1.0)?, tensor(0.0)?, tensor(0.0)?);
        let state = AdamWState { weight: &weight, ema: &ema, first_moment: &first, second_moment: &second };
        let (mut w, mut e, mut m, mut v) = (1.0_f64, 1.0_f64, 0.0_f64, 0.0_f64);
        for (step, g) in [(1, 0.5_f64), (2, -2.0)] {
            adamw_ema(&constants, 0.01, step, &tensor(g as f32 * 2.0)?, 0.5, &state)?;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = (m / (1.0 - 0.9_f64.powf(step as f64)), v / (1.0 - 0.999_f64.powf(step as f64)));
            w = w - 0.01 * 0.1 * w - 0.01 * mh / (vh.sqrt() + 1e-8);
            e = 0.5 * e + 0.5 * w;
        }
        assert!((f64::from(weight.to_host()?.to_vec1::<f32>()?[0]) - w).abs() < 1e-6);
        assert!((f64::from(ema.to_host()?.to_vec1::<f32>()?[0]) - e).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn shapes_that_differ_are_refused() -> Result<()> {
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, ema_decay: 0.5 };
        let tensor = |n: usize| Ok::<_, crate::Error>(Value::from(Tensor::zeros(n, DType::F32, &Device::Cpu)?.copy()?));
        let (a, b, c, d) = (tensor(3)?, tensor(3)?, tensor(3)?, tensor(3)?);
        let state = AdamWState { weight: &a, ema: &b, first_moment: &c, second_moment: &d };
        assert!(adamw_ema(&constants, 0.01, 1, &tensor(4)?, 1.0, &state).is_err());
        Ok(())
    }
}
