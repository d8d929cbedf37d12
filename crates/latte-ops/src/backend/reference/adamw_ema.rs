//! The reference formulation.

use candle_core::Tensor;

use crate::Result;
use crate::backend::cpu::slices::replace;
use crate::optim::adamw_ema::{AdamWState, Update};

/// [`crate::adamw_ema`] of what was checked, on any device.
pub(crate) fn step(update: &Update, gradient: &Tensor, state: &AdamWState<'_>) -> Result<()> {
    let times = |x: &Tensor, factor: f32| x.affine(f64::from(factor), 0.0);
    let gradient = times(gradient, update.gradient_scale)?;
    let first = (times(state.first_moment, update.beta1)? + times(&gradient, update.one_minus_beta1)?)?;
    let second = (times(state.second_moment, update.beta2)? + times(&gradient.sqr()?, update.one_minus_beta2)?)?;
    let root = second.sqrt()?.affine(f64::from(update.inverse_root_correction), f64::from(update.eps))?;
    let weight = (times(state.weight, update.shrink)? - times(&first, update.step_size)?.div(&root)?)?;
    let ema = (times(state.ema, update.ema_decay)? + times(&weight, update.one_minus_ema_decay)?)?;
    for (target, values) in [(state.weight, weight), (state.ema, ema), (state.first_moment, first), (state.second_moment, second)]
    {
        replace(target, &values)?;
    }
    Ok(())
}
