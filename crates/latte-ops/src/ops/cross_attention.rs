//! Multi-head cross-attention: tokens of a clip attend to the tokens of a text.

use candle_core::{D, Tensor};
use rayon::prelude::*;

use crate::backend::cpu::attention::head::{self, Head, Rows, RowsMut, Workspace};
use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::gemm::{Kernel, Matrix};
use crate::backend::cpu::operand::{Operands, is_cpu_operand, keeps_pairs, readable};
use crate::backend::cpu::slices::{Values, is_cpu_f32};
use crate::{Error, Precision, Result, Tape, Var};

/// `softmax(q·kᵀ/√k + bias)·v` for each head, where keys and values come from elsewhere (`kv`) and are shared by all queries
/// of a clip. The result is for products to read (see [`crate::linear_low_precision`]).
///
/// # Shapes
///
/// `q` `[b, …, d]`; `kv` `[b, length, 2·d]`, ordered key, value, each `[num_heads, k]`; `bias` `[b, length]` is added to all
/// scores of a key: 0 for keys to attend to, −10000 or −∞ for keys to ignore. Where all keys of a clip are ignored, −10000
/// changes nothing and −∞ makes all weights equal. Gives the shape of `q`.
///
/// # Errors
///
/// If the shapes do not fit.
pub fn cross_attention(tape: &Tape<'_>, q: &Var, kv: &Var, num_heads: usize, bias: Option<&Tensor>) -> Result<Var> {
    let layout = Layout::of(q.tensor(), kv.tensor(), num_heads, bias)?;
    let precision = tape.precision();
    // −∞ for all keys of a clip would be ∞ − ∞ in a softmax.
    let bias = bias.map(|bias| bias.contiguous()?.clamp(f32::MIN / 4.0, f32::MAX / 4.0)).transpose()?;
    let cpu = is_cpu_operand(tape, q) && is_cpu_operand(tape, kv) && bias.as_ref().is_none_or(is_cpu_f32);
    let value = if cpu {
        forward(precision, &layout, q.tensor(), kv.tensor(), bias.as_ref(), keeps_pairs(tape))?
    } else {
        plain_forward(precision, &layout, q.tensor(), kv.tensor(), bias.as_ref())?
    };
    let (q_value, kv_value) = (q.tensor().clone(), kv.tensor().clone());
    let (q, kv) = (q.target(), kv.target());
    Ok(tape.record(value, &[q.clone(), kv.clone()], move |gradient, gradients| {
        let backward = if cpu { backward } else { plain_backward };
        let [dq, dkv] = backward(precision, &layout, &q_value, &kv_value, bias.as_ref(), &gradient)?;
        gradients.give(&q, dq)?;
        gradients.give(&kv, dkv)
    }))
}

/// How many of what there are.
#[derive(Debug, Clone, Copy)]
struct Layout {
    b: usize,
    /// Queries of a clip.
    queries: usize,
    keys: usize,
    num_heads: usize,
    head_size: usize,
}

impl Layout {
    fn of(q: &Tensor, kv: &Tensor, num_heads: usize, bias: Option<&Tensor>) -> Result<Self> {
        let layout = match (q.dims(), kv.dims()) {
            (&[b, .., d], &[kv_b, keys, width]) if q.rank() > 2 && b == kv_b && width == 2 * d && keys > 0 => {
                let queries = q.dims()[1..q.rank() - 1].iter().product();
                Self { b, queries, keys, num_heads, head_size: d / num_heads.max(1) }
            }
            _ => return Err(Error::shape("cross_attention", "q [b, …, d] and kv [b, length, 2·d]", (q.dims(), kv.dims()))),
        };
        if num_heads == 0 || layout.d() != q.dims()[q.rank() - 1] {
            return Err(Error::shape("cross_attention", format!("a width of {num_heads}·k"), q.dims()));
        }
        match bias {
            Some(bias) if bias.dims() != [layout.b, layout.keys] => {
                Err(Error::shape("cross_attention", format!("a bias [{}, {}]", layout.b, layout.keys), bias.dims()))
            }
            _ => Ok(layout),
        }
    }

    fn d(&self) -> usize {
        self.num_heads * self.head_size
    }

    /// `count` queries of a clip from `first` on, with their keys, of one head. `q` and `kv` make operands of where they begin and
    /// how far their rows are apart.
    fn head<'s, O>(
        &self,
        [q, kv]: [&dyn Fn(usize, usize) -> O; 2],
        bias: Option<&'s [f32]>,
        clip: usize,
        head: usize,
        first: usize,
        count: usize,
    ) -> Head<'s, O> {
        let d = self.d();
        let part = |part: usize| kv(clip * self.keys * 2 * d + (part * self.num_heads + head) * self.head_size, 2 * d);
        Head {
            size: self.head_size,
            queries: count,
            keys: self.keys,
            q: q(self.offset(clip, head, first), d),
            k: part(0),
            v: part(1),
            rope: None,
            bias: bias.map(|bias| &bias[clip * self.keys..][..self.keys]),
        }
    }

    /// Where a head of a query lies.
    fn offset(&self, clip: usize, head: usize, query: usize) -> usize {
        (clip * self.queries + query) * self.d() + head * self.head_size
    }
}

/// The output; rounded to bfloat16, which needs a kernel of pairs, if it is `for_products`.
fn forward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    for_products: bool,
) -> Result<Tensor> {
    let (q, kv) = (readable(precision, q, layout.head_size)?, readable(precision, kv, layout.head_size)?);
    let (q_values, kv_values, bias) = (Operands::of(&q)?, Operands::of(&kv)?, bias.map(Values::of).transpose()?);
    let ([q_rows, kv_rows], bias) = ([q_values.slice(), kv_values.slice()], bias.as_deref());
    // All queries share their keys, so that a head can be cut into as many pieces as there are threads to work on it.
    let heads = layout.b * layout.num_heads;
    let wanted = (4 * rayon::current_num_threads()).div_ceil(heads.max(1));
    let piece = layout.queries.div_ceil(wanted).max(96);
    let pieces = layout.queries.div_ceil(piece);
    let write = |rows: &(dyn Fn(usize, usize) -> Rows + Sync)| {
        (0..heads * pieces).into_par_iter().with_max_len(1).for_each(|task| {
            Workspace::with(Kernel::of(precision), |workspace| {
                let (clip, head) = (task / pieces / layout.num_heads, task / pieces % layout.num_heads);
                let first = task % pieces * piece;
                let count = piece.min(layout.queries - first);
                let operands: [&dyn Fn(usize, usize) -> _; 2] =
                    [&|offset, stride| q_rows.rows(offset, stride), &|offset, stride| kv_rows.rows(offset, stride)];
                let out = rows(layout.offset(clip, head, first), layout.d());
                // SAFETY: these queries of this head lie inside the result, and are no other task's.
                unsafe { layout.head(operands, bias, clip, head, first, count).forward(workspace, out) };
            });
        });
        Ok(())
    };
    // SAFETY: the tasks are all queries of all heads, which make up the result.
    unsafe { head::result(q.dims(), for_products, write) }
}

/// The gradients of `q` and `kv`.
fn backward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    let (q, kv, gradient) = (q.contiguous()?, kv.contiguous()?, gradient.contiguous()?);
    let (q_values, kv_values, gradient) = (Values::of(&q)?, Values::of(&kv)?, Values::of(&gradient)?);
    let bias = bias.map(Values::of).transpose()?;
    let (gradient, bias): (&[f32], Option<&[f32]>) = (&gradient, bias.as_deref());
    let (q_slice, kv_slice): (&[f32], &[f32]) = (&q_values, &kv_values);
    let (mut dq, mut dkv) = (Unwritten::<f32>::new(q.elem_count()), Unwritten::<f32>::new(kv.elem_count()));
    let (q_result, kv_result) = (Shared::new(dq.as_mut_ptr()), Shared::new(dkv.as_mut_ptr()));
    let (d, size) = (layout.d(), layout.head_size);
    (0..layout.b * layout.num_heads).into_par_iter().with_max_len(1).for_each(|task| {
        Workspace::with(Kernel::of(precision), |workspace| {
            let (clip, head) = (task / layout.num_heads, task % layout.num_heads);
            let gradient = Matrix::rows(&gradient[layout.offset(clip, head, 0)..], d);
            let operands: [&dyn Fn(usize, usize) -> _; 2] =
                [&|offset: usize, stride| Matrix::rows(&q_slice[offset..], stride), &|offset: usize, stride| {
                    Matrix::rows(&kv_slice[offset..], stride)
                }];
            // SAFETY: one head of one clip lies inside the results, and is no other task's.
            unsafe {
                let dq = RowsMut { first: Shared::new(q_result.get().add(layout.offset(clip, head, 0))), stride: d };
                let part = |part: usize| {
                    let offset = clip * layout.keys * 2 * d + (part * layout.num_heads + head) * size;
                    RowsMut { first: Shared::new(kv_result.get().add(offset)), stride: 2 * d }
                };
                layout.head(operands, bias, clip, head, 0, layout.queries).backward(workspace, gradient, [dq, part(0), part(1)]);
            }
        });
    });
    // SAFETY: all heads of all clips make up the results.
    let (dq, dkv) = unsafe { (dq.written(), dkv.written()) };
    Ok([Tensor::from_vec(dq, q.dims(), q.device())?, Tensor::from_vec(dkv, kv.dims(), kv.device())?])
}

/// Queries, keys and values `[b, heads, tokens, k]`, and their softmax `[b, heads, queries, keys]`, in plain operations.
fn plain(precision: Precision, layout: &Layout, q: &Tensor, kv: &Tensor, bias: Option<&Tensor>) -> Result<[Tensor; 4]> {
    let Layout { b, queries, keys, num_heads, head_size } = *layout;
    let q = q.reshape((b, queries, num_heads, head_size))?.transpose(1, 2)?.contiguous()?;
    let kv = kv.reshape((b, keys, 2, num_heads, head_size))?;
    let part = |i: usize| kv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let [q, k, v] = [precision.operand(&q)?, precision.operand(&part(0)?)?, precision.operand(&part(1)?)?];
    let mut scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (head_size as f64).sqrt()))?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&bias.reshape((b, 1, 1, keys))?)?;
    }
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let p = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    Ok([q, k, v, p])
}

fn plain_forward(precision: Precision, layout: &Layout, q: &Tensor, kv: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [_, _, v, p] = plain(precision, layout, q, kv, bias)?;
    Ok(precision.operand(&p)?.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape(q.dims())?)
}

fn plain_backward(
    precision: Precision,
    layout: &Layout,
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    let Layout { b, queries, num_heads, head_size, .. } = *layout;
    let [q_heads, k, v, p] = plain(precision, layout, q, kv, bias)?;
    let gradient = gradient.reshape((b, queries, num_heads, head_size))?.transpose(1, 2)?.contiguous()?;
    let gradient = precision.operand(&gradient)?;
    let dv = precision.operand(&p)?.transpose(2, 3)?.contiguous()?.matmul(&gradient)?;
    let dp = gradient.matmul(&v.transpose(2, 3)?.contiguous()?)?;
    let ds = (&p * dp.broadcast_sub(&(&dp * &p)?.sum_keepdim(D::Minus1)?)?)?;
    let ds = precision.operand(&(ds * (1.0 / (head_size as f64).sqrt()))?)?;
    let (dq, dk) = (ds.matmul(&k)?, ds.transpose(2, 3)?.contiguous()?.matmul(&q_heads)?);
    let dkv = Tensor::stack(&[dk.transpose(1, 2)?, dv.transpose(1, 2)?], 2)?; // [b, keys, 2, heads, k]
    Ok([dq.transpose(1, 2)?.contiguous()?.reshape(q.dims())?, dkv.reshape(kv.dims())?])
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::{undisturbed, with_each};
    use crate::finite_difference::{assert_close, assert_close_at, check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let inputs = [pseudo_random(&[2, 3, 2, 8], 1)?, pseudo_random(&[2, 5, 16], 2)?];
        let bias = pseudo_random(&[2, 5], 3)?;
        check(&inputs, |tape, v| cross_attention(tape, &v[0], &v[1], 2, None))?;
        check(&inputs, |tape, v| cross_attention(tape, &v[0], &v[1], 4, Some(&bias)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn cpu_kernels_agree_with_the_reference(
            (b, queries, keys) in (1usize..3, 1usize..260, 1usize..90),
            (num_heads, head_size) in (1usize..4, 1usize..27),
            (masked, transposed, bf16) in (any::<bool>(), any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            // bfloat16 holds 8 bits: where a sum falls on the other side of a tie, a weight moves by 1/256.
            let tolerance = if bf16 { 8e-3 } else { 2e-5 };
            let run = || -> Result<()> {
                // Other strides, the same values.
                let random = |dims: [usize; 3], seed| {
                    let t = (pseudo_random(&dims, seed)? * 2.0)?;
                    if transposed { Ok(t.transpose(1, 2)?.contiguous()?.transpose(1, 2)?) } else { Result::Ok(t) }
                };
                let d = num_heads * head_size;
                let (q, kv) = (random([b, queries, d], seed)?, random([b, keys, 2 * d], seed ^ 1)?);
                let gradient = random([b, queries, d], seed ^ 2)?;
                // Every third key is ignored, but not the first.
                let ignored = (0..b * keys).map(|i| if i % keys % 3 == 2 { -10000f32 } else { 0.0 }).collect::<Vec<_>>();
                let bias = Tensor::from_vec(ignored, (b, keys), &Device::Cpu)?;
                let bias = masked.then_some(&bias);
                let layout = Layout::of(&q, &kv, num_heads, bias)?;
                // The terms of each sum, at their largest: rounding errors go by these, also where the terms cancel.
                let [q_heads, k, v, p] = plain(precision, &layout, &q, &kv, bias)?;
                let largest = |t: &Tensor| Result::Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?));
                let (values, keys_seen) = (largest(&v)?, largest(&p.sum(2)?)?);
                let change = values * head_size as f64 / (head_size as f64).sqrt(); // |∂ loss / ∂ score| ≤ p · |g · v|, |g| ≤ 1
                let plain = plain_forward(precision, &layout, &q, &kv, bias)?;
                assert_close_at(&forward(precision, &layout, &q, &kv, bias, false)?, &plain, tolerance, values)?;
                let [dq, dkv] = plain_backward(precision, &layout, &q, &kv, bias, &gradient)?;
                let [our_dq, our_dkv] = backward(precision, &layout, &q, &kv, bias, &gradient)?;
                assert_close_at(&our_dq, &dq, tolerance, change * largest(&k)?)?;
                let part = |t: &Tensor, i: usize| Result::Ok(t.narrow(2, i * d, d)?);
                let queries = change * keys_seen * largest(&q_heads)?;
                assert_close_at(&part(&our_dkv, 0)?, &part(&dkv, 0)?, tolerance, queries)?;
                assert_close_at(&part(&our_dkv, 1)?, &part(&dkv, 1)?, tolerance, keys_seen)?;
                Ok(())
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
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
                    let y = cross_attention(&tape, &q, &kv, 2, Some(&bias))?;
                    let values = y.tensor().flatten_all()?.to_vec1()?;
                    let gradients = tape.backward(&y, y.tensor().ones_like()?)?;
                    let dkv = gradients.input(&kv).ok_or(Error::MissingParameter("gradient".into()))?;
                    Ok((values, dkv.narrow(1, 1, 1)?.flatten_all()?.to_vec1()?))
                };
                let ((one, gradient), (other, _)) = (run(&kv)?, run(&kv.broadcast_add(&change)?)?);
                assert_eq!(one, other);
                assert!(gradient.iter().all(|&g| g == 0.0), "{gradient:?}");
                // All ignored: as if none were, or evenly.
                let all = Tensor::full(ignore, (1, 3), &Device::Cpu)?;
                let tape = Tape::inference();
                let (q, kv) = (tape.constant(q.clone()), tape.constant(kv.clone()));
                let y = cross_attention(&tape, &q, &kv, 2, Some(&all))?;
                if ignore.is_finite() {
                    // Beside −10000 scores keep three digits behind the point.
                    assert_close(y.tensor(), cross_attention(&tape, &q, &kv, 2, None)?.tensor(), 2e-3)?;
                } else {
                    let mean = kv.tensor().narrow(2, 8, 8)?.mean_keepdim(1)?.broadcast_as((1, 4, 8))?;
                    assert_close(y.tensor(), &mean.contiguous()?, 1e-6)?;
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
        assert!(cross_attention(&tape, &q, &kv, 2, Some(&pseudo_random(&[2, 4], 1)?)).is_err());
        assert!(cross_attention(&tape, &var(&[2, 8])?, &kv, 2, None).is_err());
        Ok(())
    }
}
