//! The reference formulation.

use candle_core::Tensor;

use crate::optim::adamw_ema::{AdamWState, Update};
use crate::{Result, Value};

pub(crate) fn adamw_ema(update: &Update, gradient: &Value, state: &AdamWState<'_>) -> Result<()> {
    let times = |x: &Tensor, factor: f32| x.affine(f64::from(factor), 0.0);
    let [weight, ema, first, second] = [state.weight, state.ema, state.first_moment, state.second_moment].map(Value::fetch);
    let gradient = times(&gradient.fetch()?, update.gradient_scale)?;
    let first = (times(&first?, update.beta1)? + times(&gradient, update.one_minus_beta1)?)?;
    let second = (times(&second?, update.beta2)? + times(&gradient.sqr()?, update.one_minus_beta2)?)?;
    let root = second.sqrt()?.affine(f64::from(update.inverse_root_correction), f64::from(update.eps))?;
    let weight = (times(&weight?, update.shrink)? - times(&first, update.step_size)?.div(&root)?)?;
    let ema = (times(&ema?, update.ema_decay)? + times(&weight, update.one_minus_ema_decay)?)?;
    for (target, values) in [(state.weight, weight), (state.ema, ema), (state.first_moment, first), (state.second_moment, second)]
    {
        target.replace(&values)?;
    }
    Ok(())
}
