//! A new device needs a type that implements `DeviceTensor` and a `Backend`, and no kernel at all.

use candle_core::{Device, Tensor};

use super::*;
use crate::backend::cpu::instruction_set::tests::undisturbed;
use crate::backend::remote::{RUNS_OF_KERNEL, RemoteTensor};
use crate::finite_difference::pseudo_random;
use crate::selftest::OPERATIONS;
use crate::{AdamW, Parameters, Tape, adamw_ema, add, gated_residual, linear, linear_gated, silu};

fn bits(value: &Value) -> Result<Vec<u32>> {
    Ok(value.to_host()?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

#[test]
fn the_place_of_values_chooses() -> Result<()> {
    let here = Value::from(pseudo_random(&[2, 3], 1)?);
    let remote = RemoteTensor::send(&pseudo_random(&[2, 3], 1)?)?;
    let words = Value::from(pseudo_random(&[2, 3], 1)?.to_dtype(candle_core::DType::BF16)?);
    let other = Value::from(pseudo_random(&[2, 3], 1)?.to_dtype(candle_core::DType::F64)?);
    assert_eq!(of([&here]).name(), "cpu");
    assert_eq!(of([&here, &words]).name(), "cpu");
    assert_eq!(of([&here, &other]).name(), "reference");
    assert_eq!(of([&remote]).name(), "remote");
    assert_eq!(of([&remote, &here]).name(), "reference");
    assert_eq!(by_reference(|| of([&here]).name()), "reference");
    Ok(())
}

/// Every operation, forward and backward, on a device without kernels, equals the reference bit for bit.
#[test]
fn a_device_that_the_tensor_library_does_not_know_falls_back_for_every_operation() -> Result<()> {
    undisturbed(|| {
        for operation in OPERATIONS {
            let remote = operation.results_on(&RemoteTensor::send)?;
            let reference = by_reference(|| operation.results_on(&|tensor| Ok(tensor.into())))?;
            assert_eq!(remote.len(), reference.len());
            for (ours, expected) in remote.iter().zip(&reference) {
                assert_eq!(bits(&ours.into())?, bits(&expected.into())?, "{}", operation.name);
            }
        }
        Ok(())
    })
}

/// A new operation without an entry in the self-test would never be compared with its reference formulation.
#[test]
fn the_self_test_runs_every_operation() -> Result<()> {
    let found = undisturbed(|| {
        fallbacks::OF_THREAD.take();
        RUNS_OF_KERNEL.set(0);
        for operation in OPERATIONS {
            operation.results_on(&RemoteTensor::send)?;
        }
        Ok::<_, crate::Error>(fallbacks::OF_THREAD.take())
    })?;
    let has_run = |name| found.contains(name) || (name == "linear_gated" && RUNS_OF_KERNEL.get() > 0);
    let missing: Vec<_> = NAMES.iter().filter(|&&name| !has_run(name)).collect();
    assert!(missing.is_empty(), "add to `OPERATIONS` in selftest.rs: {missing:?}");
    Ok(())
}

#[test]
fn a_step_of_training_stays_on_the_device() -> Result<()> {
    let send = |dims: &[usize], seed| -> Result<Value> { RemoteTensor::send(&pseudo_random(dims, seed)?) };
    let mut weights = Parameters::new();
    weights.insert("w", send(&[4, 4], 1)?);
    weights.insert("b", send(&[4], 2)?);
    let tape = Tape::recording().with_recompute(true);
    let x = tape.input(send(&[3, 4], 3)?);
    let y = tape.segment(&[&x], |tape, v| {
        let (w, b) = (tape.parameter("w", weights.get("w")?), tape.parameter("b", weights.get("b")?));
        let y = linear(tape, &v[0], &w, Some(&b))?;
        // The weight is used twice, so that gradients are added up.
        add(tape, &linear(tape, &silu(tape, &y)?, &w, None)?, &v[0])
    })?;
    let is_remote = |value: &Value| value.on::<RemoteTensor>().is_some();
    assert!(is_remote(y.value()));
    let gradients = tape.backward(&y, weights.beside(&pseudo_random(&[3, 4], 4)?)?)?;
    assert!(gradients.input(&x).is_some_and(is_remote));
    let gradients = gradients.into_parameters()?;
    let (ema, first, second) = (weights.deep_copy()?, weights.zeros_like()?, weights.zeros_like()?);
    let before = bits(weights.get("w")?)?;
    for (name, weight) in weights.iter() {
        let (ema, first_moment, second_moment) = (ema.get(name)?, first.get(name)?, second.get(name)?);
        assert!([weight, ema, first_moment, second_moment, gradients.get(name)?].into_iter().all(is_remote));
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, ema_decay: 0.5 };
        let state = AdamWState { weight, ema, first_moment, second_moment };
        adamw_ema(&constants, 0.1, 1, gradients.get(name)?, 1.0, &state)?;
    }
    assert_ne!(bits(weights.get("w")?)?, before, "the step is taken in place");
    assert_ne!(bits(ema.get("w")?)?, before);
    assert!(!is_remote(&weights.to_device(&Device::Cpu)?.get("w")?.beside(&pseudo_random(&[2], 1)?)?));
    Ok(())
}

/// Fallbacks are counted by operation; a kernel's work is not.
#[test]
fn what_falls_back_is_counted() -> Result<()> {
    let count = |operation: &str| fallbacks().get(operation).copied().unwrap_or_default();
    let run = |send: &dyn Fn(&Tensor) -> Result<Value>| -> Result<()> {
        let tape = Tape::inference();
        let var = |dims: &[usize], seed| Ok::<_, crate::Error>(tape.constant(send(&pseudo_random(dims, seed)?)?));
        let (x, gate, weight) = (var(&[2, 4], 1)?, var(&[1, 4], 2)?, var(&[4, 4], 3)?);
        gated_residual(&tape, &x, &gate, &linear_gated(&tape, &x, &weight, None, &x, &gate)?).map(drop)
    };
    let before = count("gated_residual");
    run(&RemoteTensor::send)?;
    assert!(count("gated_residual") > before);
    Ok(())
}
