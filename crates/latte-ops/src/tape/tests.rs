//! Tests of tapes, segments and sums of gradients.

use candle_core::Device;

use super::*;
use crate::backend::cpu::instruction_set::tests::undisturbed;
use crate::finite_difference::{check, pseudo_random};
use crate::{add, gated_residual, linear, linear_gelu, reshape, silu};

fn two_layers<'a>(tape: &Tape<'a>, x: &Var, c: &Var, weights: &'a [Tensor; 2]) -> Result<Var> {
    let mut x = x.clone();
    for (i, weight) in weights.iter().enumerate() {
        let layer = move |tape: &Tape<'a>, v: &[Var]| -> Result<Var> {
            let y = linear_gelu(tape, &v[0], &tape.parameter(&format!("w{i}"), weight), None)?;
            add(tape, &add(tape, &v[0], &y)?, &v[1])
        };
        x = tape.segment(&[&x, c], layer)?;
    }
    Ok(x)
}

#[test]
fn a_frozen_parameter_has_no_gradient_and_is_packed_once() -> Result<()> {
    // Another instruction set would need other packed weights.
    let sizes = undisturbed(|| {
        let (x, weight) = (pseudo_random(&[6, 20], 1)?, pseudo_random(&[30, 20], 2)?);
        let packed = PackedWeightCache::new();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let tape = Tape::recording();
            let (x, frozen) = (tape.input(&x), tape.frozen(&weight, &packed));
            let y = linear(&tape, &x, &frozen, None)?;
            let gradients = tape.backward(&y, pseudo_random(&[6, 30], 3)?)?;
            assert!(gradients.input(&x).is_some() && gradients.parameters.is_empty());
            sizes.push(packed.size());
        }
        Ok::<_, Error>(sizes)
    })?;
    // Packed for the forward and the backward pass of the first tape, and not again.
    assert!(sizes[0] > 2 * 4 * 30 * 20 - 1 && sizes.iter().all(|&size| size == sizes[0]), "{sizes:?}");
    Ok(())
}

#[test]
fn recomputed_segments_give_the_same_gradients_bit_for_bit() -> Result<()> {
    undisturbed(|| {
        let weights = [pseudo_random(&[5, 5], 1)?, pseudo_random(&[5, 5], 2)?];
        let run = |recompute: bool| -> Result<Vec<Vec<f32>>> {
            let tape = Tape::recording().with_recompute(recompute);
            let (x, c) = (tape.input(pseudo_random(&[3, 5], 3)?), tape.input(pseudo_random(&[1, 5], 4)?));
            let c_active = silu(&tape, &c)?;
            let y = two_layers(&tape, &x, &c_active, &weights)?;
            let gradients = tape.backward(&y, pseudo_random(&[3, 5], 5)?)?;
            let found = [gradients.input(&x), gradients.input(&c), gradients.parameter("w0"), gradients.parameter("w1")];
            found
                .into_iter()
                .map(|t| Ok(t.ok_or(Error::MissingParameter("gradient".into()))?.to_host()?.flatten_all()?.to_vec1()?))
                .collect()
        };
        assert_eq!(run(false)?, run(true)?);
        Ok(())
    })
}

#[test]
fn gradients_that_meet_are_summed_without_harming_their_sources() -> Result<()> {
    // x reaches the output along three paths, two of which share one gradient tensor.
    check(&[pseudo_random(&[2, 3], 1)?], |tape, v| {
        let twice = add(tape, &v[0], &v[0])?;
        let gated = silu(tape, &v[0])?;
        let sum = add(tape, &twice, &gated)?;
        add(tape, &sum, &v[0])
    })
}

#[test]
fn a_gradient_that_two_values_share_is_not_changed_under_one_of_them() -> Result<()> {
    let gate = pseudo_random(&[1, 3], 3)?;
    check(&[pseudo_random(&[2, 3], 1)?, pseudo_random(&[2, 3], 2)?], |tape, v| {
        let other = silu(tape, &v[1])?;
        // The sum's gradient goes through the residual to the input, which gets another one added before `other` reads its own.
        let y = gated_residual(tape, &v[0], &tape.constant(&gate), &silu(tape, &v[0])?)?;
        let y = reshape(tape, &reshape(tape, &y, &[6])?, &[2, 3])?;
        add(tape, &y, &other)
    })
}

#[test]
fn nothing_is_kept_where_no_gradient_is_wanted() -> Result<()> {
    let tape = Tape::inference();
    let x = tape.input(pseudo_random(&[2, 3], 1)?);
    silu(&tape, &x)?;
    assert_eq!(tape.nodes.borrow().len(), 0);
    let tape = Tape::recording();
    silu(&tape, &tape.constant(pseudo_random(&[2, 3], 1)?))?;
    assert_eq!(tape.nodes.borrow().len(), 0);
    Ok(())
}

#[test]
fn a_gradient_of_another_shape_is_refused() -> Result<()> {
    let tape = Tape::recording();
    let x = tape.input(pseudo_random(&[2, 3], 1)?);
    let y = silu(&tape, &x)?;
    assert!(tape.backward(&y, Tensor::new(&[1f32], &Device::Cpu)?).is_err());
    Ok(())
}
