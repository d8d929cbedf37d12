//! AdamW and the moving average on the CPU, on all threads, in place.

use rayon::prelude::*;

use super::slices::{CHUNK, Values, with_slice_mut};
use crate::optim::adamw_ema::{AdamWState, Update};
use crate::{Result, Value};

pub(super) fn adamw_ema(update: &Update, gradient: &Value, state: &AdamWState<'_>) -> Result<()> {
    let gradient = gradient.fetch()?.contiguous()?;
    let gradient = Values::of(&gradient)?;
    let gradient: &[f32] = &gradient;
    let [weight, ema, first, second] = [state.weight, state.ema, state.first_moment, state.second_moment].map(Value::fetch);
    with_slice_mut(&weight?, |weight| {
        with_slice_mut(&ema?, |ema| {
            with_slice_mut(&first?, |first| {
                with_slice_mut(&second?, |second| {
                    (
                        weight.par_chunks_mut(CHUNK),
                        ema.par_chunks_mut(CHUNK),
                        first.par_chunks_mut(CHUNK),
                        second.par_chunks_mut(CHUNK),
                        gradient.par_chunks(CHUNK),
                    )
                        .into_par_iter()
                        .for_each(|(weight, ema, first, second, gradient)| {
                            apply(update, weight, ema, first, second, gradient);
                        });
                    Ok(())
                })
            })
        })
    })
}

fn apply(update: &Update, weight: &mut [f32], ema: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
    for ((((w, e), m), v), g) in weight.iter_mut().zip(ema).zip(first).zip(second).zip(gradient) {
        let g = g * update.gradient_scale;
        *m = update.beta1 * *m + update.one_minus_beta1 * g;
        *v = update.beta2 * *v + update.one_minus_beta2 * g * g;
        *w = *w * update.shrink - update.step_size * *m / (v.sqrt() * update.inverse_root_correction + update.eps);
        *e = update.ema_decay * *e + update.one_minus_ema_decay * *w;
    }
}
