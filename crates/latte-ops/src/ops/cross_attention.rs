//! Multi-head cross-attention: tokens of a clip attend to the tokens of a text.

use crate::tape::Context;
use crate::{Error, Result, Tape, Value, Var, backend};

/// `softmax(q·kᵀ/√k + bias)·v` for each head, with keys and values from another sequence (`kv`), shared by all queries of a clip.
/// Only matmuls may read the result (see [`crate::linear_low_precision`]).
///
/// # Shapes
///
/// `q` `[b, …, d]`; `kv` `[b, length, 2·d]`, ordered key, value, each `[num_heads, k]`; `bias` `[b, length]`, a constant, is added
/// to all scores of a key: 0 for keys to attend to, −10000 or −∞ for masked keys. If all keys of a clip are masked, −10000 gives
/// the same result as 0, and −∞ gives equal weights. Gives the shape of `q`.
///
/// # Errors
///
/// If the shapes do not fit, or `bias` wants a gradient.
pub fn cross_attention(tape: &Tape<'_>, q: &Var, kv: &Var, num_heads: usize, bias: Option<&Var>) -> Result<Var> {
    let layout = Layout::of(q.value(), kv.value(), num_heads, bias.map(Var::value))?;
    if bias.is_some_and(Var::is_wanted) {
        return Err(Error::NoGradient("the bias of cross_attention"));
    }
    let call = CrossAttention { context: tape.context(), layout, q: q.value(), kv: kv.value(), bias: bias.map(Var::value) };
    let backend = backend::of([call.q, call.kv].into_iter().chain(call.bias));
    tape.record("cross_attention", &[q, kv], backend.cross_attention(&call)?)
}

/// The arguments of a cross-attention, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrossAttention<'c> {
    pub(crate) context: Context<'c>,
    pub(crate) layout: Layout,
    pub(crate) q: &'c Value,
    pub(crate) kv: &'c Value,
    pub(crate) bias: Option<&'c Value>,
}

/// The sizes of a cross-attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) b: usize,
    /// Queries of a clip.
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) num_heads: usize,
    pub(crate) head_size: usize,
}

impl Layout {
    pub(crate) fn of(q: &Value, kv: &Value, num_heads: usize, bias: Option<&Value>) -> Result<Self> {
        let layout = match (q.dims(), kv.dims()) {
            (&[b, .., d], &[kv_b, keys, width]) if q.dims().len() > 2 && b == kv_b && width == 2 * d && keys > 0 => {
                let queries = q.dims()[1..q.dims().len() - 1].iter().product();
                Self { b, queries, keys, num_heads, head_size: d / num_heads.max(1) }
            }
            _ => return Err(Error::shape("cross_attention", "q [b, …, d] and kv [b, length, 2·d]", (q.dims(), kv.dims()))),
        };
        if num_heads == 0 || layout.d() != q.dims()[q.dims().len() - 1] {
            return Err(Error::shape("cross_attention", format!("a width of {num_heads}·k"), q.dims()));
        }
        match bias {
            Some(bias) if bias.dims() != [layout.b, layout.keys] => {
                Err(Error::shape("cross_attention", format!("a bias [{}, {}]", layout.b, layout.keys), bias.dims()))
            }
            _ => Ok(layout),
        }
    }

    pub(crate) fn d(&self) -> usize {
        self.num_heads * self.head_size
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::backend::cpu::instruction_set::tests::undisturbed;
    use crate::finite_difference::{assert_close, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 2, 8], 1)?, pseudo_random(&[2, 5, 16], 2)?];
        let bias = pseudo_random(&[2, 5], 3)?;
        check(&inputs, |tape, v| cross_attention(tape, &v[0], &v[1], 2, None))?;
        check(&inputs, |tape, v| cross_attention(tape, &v[0], &v[1], 4, Some(&tape.constant(&bias))))
    }

    #[test]
    fn ignored_keys_have_no_influence_and_no_gradient() -> Result<()> {
        undisturbed(|| {
            let (q, kv) = (pseudo_random(&[1, 4, 8], 1)?, pseudo_random(&[1, 3, 16], 2)?);
            let change = Tensor::new(&[0f32, 5., 0.], &Device::Cpu)?.reshape((1, 3, 1))?;
            for ignore in [-10000f32, f32::NEG_INFINITY] {
                let bias = Tensor::new(&[[0f32, ignore, 0.]], &Device::Cpu)?;
                let run = |kv: &Tensor| -> Result<(Vec<f32>, Vec<f32>)> {
                    let tape = Tape::recording();
                    let (q, kv) = (tape.input(q.clone()), tape.input(kv.clone()));
                    let y = cross_attention(&tape, &q, &kv, 2, Some(&tape.constant(&bias)))?;
                    let values = y.to_host()?.flatten_all()?.to_vec1()?;
                    let gradients = tape.backward(&y, y.to_host()?.ones_like()?)?;
                    let dkv = gradients.input(&kv).ok_or(Error::MissingParameter("gradient".into()))?;
                    Ok((values, dkv.to_host()?.narrow(1, 1, 1)?.flatten_all()?.to_vec1()?))
                };
                let ((one, gradient), (other, _)) = (run(&kv)?, run(&kv.broadcast_add(&change)?)?);
                assert_eq!(one, other);
                assert!(gradient.iter().all(|&g| g == 0.0), "{gradient:?}");
                // All keys masked: as if none were, or equal weights.
                let all = Tensor::full(ignore, (1, 3), &Device::Cpu)?;
                let tape = Tape::inference();
                let (q, kv) = (tape.constant(q.clone()), tape.constant(kv.clone()));
                let y = cross_attention(&tape, &q, &kv, 2, Some(&tape.constant(&all)))?;
                if ignore.is_finite() {
                    // With a bias of −10000, scores keep three decimal places.
                    assert_close(&y.to_host()?, &cross_attention(&tape, &q, &kv, 2, None)?.to_host()?, 2e-3)?;
                } else {
                    let mean = kv.to_host()?.narrow(2, 8, 8)?.mean_keepdim(1)?.broadcast_as((1, 4, 8))?;
                    assert_close(&y.to_host()?, &mean.contiguous()?, 1e-6)?;
                }
            }
            Ok(())
        })
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() -> Result<()> {
        let tape = Tape::inference();
        let var = |dims: &[usize]| Ok::<_, Error>(tape.constant(pseudo_random(dims, 1)?));
        let (q, kv) = (var(&[2, 4, 8])?, var(&[2, 3, 16])?);
        assert!(cross_attention(&tape, &q, &kv, 3, None).is_err());
        assert!(cross_attention(&tape, &q, &kv, 0, None).is_err());
        assert!(cross_attention(&tape, &q, &var(&[1, 3, 16])?, 2, None).is_err());
        assert!(cross_attention(&tape, &q, &var(&[2, 3, 8])?, 2, None).is_err());
        assert!(cross_attention(&tape, &q, &kv, 2, Some(&var(&[2, 4])?)).is_err());
        assert!(cross_attention(&tape, &var(&[2, 8])?, &kv, 2, None).is_err());
        Ok(())
    }
}
