//! Multi-head attention with an arbitrary bias on its scores, for text and image encoders.

use crate::{Error, Result, Tape, Value, Var, backend};

/// `softmax(scale · q·kᵀ + bias)·v` for each head.
///
/// # Shapes
///
/// `q`, `k` and `v` `[b, l, num_heads·k]`; `bias`, a constant, broadcasts to `[b, num_heads, l, l]`; gives the shape of `q`.
///
/// # Errors
///
/// If the shapes do not fit, or `bias` wants a gradient.
pub fn dot_product_attention(
    tape: &Tape<'_>,
    [q, k, v]: [&Var; 3],
    num_heads: usize,
    scale: f64,
    bias: Option<&Var>,
) -> Result<Var> {
    const OP: &str = "dot_product_attention";
    let [b, l, d] = *q.dims() else { return Err(Error::shape(OP, "q [b, l, d]", q.dims())) };
    if k.dims() != q.dims() || v.dims() != q.dims() || num_heads == 0 || !d.is_multiple_of(num_heads) {
        return Err(Error::shape(OP, format!("q, k and v [b, l, {num_heads}·k]"), (q.dims(), k.dims(), v.dims())));
    }
    if let Some(bias) = bias {
        let scores = [b, num_heads, l, l];
        let fits = bias.dims().len() <= 4
            && bias.dims().iter().rev().zip(scores.iter().rev()).all(|(&got, &len)| got == len || got == 1);
        if !fits {
            return Err(Error::shape(OP, format!("a bias that broadcasts to {scores:?}"), bias.dims()));
        }
        if bias.is_wanted() {
            return Err(Error::NoGradient("the bias of dot_product_attention"));
        }
    }
    let call = DotProduct { q: q.value(), k: k.value(), v: v.value(), num_heads, scale, bias: bias.map(Var::value) };
    let backend = backend::of([call.q, call.k, call.v].into_iter().chain(call.bias));
    tape.record(OP, &[q, k, v], backend.dot_product_attention(&call)?)
}

/// The arguments of a dot-product attention, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DotProduct<'c> {
    pub(crate) q: &'c Value,
    pub(crate) k: &'c Value,
    pub(crate) v: &'c Value,
    pub(crate) num_heads: usize,
    pub(crate) scale: f64,
    pub(crate) bias: Option<&'c Value>,
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::finite_difference::{assert_close, check, pseudo_random};
    use crate::{Attention, AttentionAxis, attention, concat, reshape};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 8], 1)?, pseudo_random(&[2, 3, 8], 2)?, pseudo_random(&[2, 3, 8], 3)?];
        let bias = pseudo_random(&[2, 1, 1, 3], 4)?;
        check(&inputs, |tape, v| dot_product_attention(tape, [&v[0], &v[1], &v[2]], 2, 0.7, None))?;
        check(&inputs, |tape, v| dot_product_attention(tape, [&v[0], &v[1], &v[2]], 4, 1.0, Some(&tape.constant(&bias))))
    }

    #[test]
    fn without_a_bias_it_is_attention_and_a_mask_hides_keys() -> Result<()> {
        let tape = Tape::inference();
        let [q, k, v] = [1, 2, 3].map(|seed| pseudo_random(&[2, 5, 8], seed).map(|t| tape.constant(t)));
        let (q, k, v) = (q?, k?, v?);
        let ours = dot_product_attention(&tape, [&q, &k, &v], 2, 0.5, None)?;
        let qkv = reshape(&tape, &concat(&tape, &[&q, &k, &v], 2)?, &[2, 1, 5, 24])?;
        let kind = Attention { axis: AttentionAxis::Spatial, num_heads: 2, heads: 0..2, rope: None };
        let expected = reshape(&tape, &attention(&tape, &qkv, &kind)?, &[2, 5, 8])?;
        assert_close(&ours.to_host()?, &expected.to_host()?, 1e-5)?;
        let mask = tape.constant(Tensor::new(
            &[0f32, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
            &Device::Cpu,
        )?);
        let first = dot_product_attention(&tape, [&q, &k, &v], 2, 0.5, Some(&mask))?.to_host()?;
        assert_close(&first.narrow(1, 4, 1)?, &v.to_host()?.narrow(1, 0, 1)?, 1e-6)
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() -> Result<()> {
        let tape = Tape::recording();
        let var = |dims: &[usize]| Ok::<_, Error>(tape.constant(pseudo_random(dims, 1)?));
        let (x, other) = (var(&[2, 3, 8])?, var(&[2, 4, 8])?);
        let refused =
            |k: &Var, heads: usize, bias: Option<&Var>| dot_product_attention(&tape, [&x, k, &x], heads, 1.0, bias).is_err();
        assert!(!refused(&x, 2, None));
        assert!(refused(&other, 2, None) && refused(&x, 3, None) && refused(&x, 0, None));
        assert!(refused(&x, 2, Some(&var(&[4])?)));
        assert!(refused(&x, 2, Some(&tape.input(pseudo_random(&[3], 1)?))));
        Ok(())
    }
}
