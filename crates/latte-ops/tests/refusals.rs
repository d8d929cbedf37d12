//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.

use std::cell::Cell;

use candle_core::{Device, Tensor};
use latte_ops::finite_difference::pseudo_random;
use latte_ops::{CancelToken, DeviceChoice, Error, Parameters, Result, Tape, cross_attention, embedding, mul, silu};

/// The test that provokes the variant: a new variant does not compile until it has one.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Shape { .. } => "an_index_beyond_a_table",
        Error::MissingParameter(_) => "a_parameter_that_is_not_there",
        Error::NoGradient(_) => "a_gradient_of_a_constant",
        Error::Recompute(_) => "a_segment_that_fails_in_the_backward_pass",
        Error::Cancelled => "a_segment_of_cancelled_work",
        Error::Device(_) => "a_device_that_no_machine_has",
        Error::Tensor(_) => "values_of_two_types",
    }
}

#[test]
fn an_index_beyond_a_table() -> Result<()> {
    let tape = Tape::inference();
    let error = embedding(&tape, &tape.constant(pseudo_random(&[4, 3], 1)?), &[4]).unwrap_err();
    assert_eq!(provoked_by(&error), "an_index_beyond_a_table");
    assert!(
        matches!(&error, Error::Shape { op: "embedding", expected, got } if expected == "indices below 4" && got == "4"),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn a_parameter_that_is_not_there() {
    let error = Parameters::new().get("blocks.0.weight").unwrap_err();
    assert_eq!(provoked_by(&error), "a_parameter_that_is_not_there");
    assert!(matches!(&error, Error::MissingParameter(name) if name == "blocks.0.weight"), "{error:?}");
}

#[test]
fn a_gradient_of_a_constant() -> Result<()> {
    let tape = Tape::recording();
    let values = |shape: &[usize]| Ok::<_, Error>(tape.input(pseudo_random(shape, 1)?));
    let error = cross_attention(&tape, &values(&[1, 2, 4])?, &values(&[1, 3, 8])?, 2, Some(&values(&[1, 3])?)).unwrap_err();
    assert_eq!(provoked_by(&error), "a_gradient_of_a_constant");
    assert!(matches!(error, Error::NoGradient("the bias of cross_attention")), "{error:?}");
    Ok(())
}

#[test]
fn a_segment_that_fails_in_the_backward_pass() -> Result<()> {
    let runs = Cell::new(0);
    let tape = Tape::recording().with_recompute(true);
    let x = tape.input(pseudo_random(&[2, 3], 1)?);
    let y = tape.segment(&[&x], |tape, inputs| {
        runs.set(runs.get() + 1);
        if runs.get() == 1 { silu(tape, &inputs[0]) } else { Err(Error::MissingParameter("w".into())) }
    })?;
    let error = tape.backward(&y, pseudo_random(&[2, 3], 2)?).unwrap_err();
    assert_eq!((provoked_by(&error), runs.get()), ("a_segment_that_fails_in_the_backward_pass", 2));
    let Error::Recompute(cause) = &error else { panic!("{error:?}") };
    assert!(matches!(cause.downcast_ref(), Some(Error::MissingParameter(name)) if name == "w"), "{error:?}");
    Ok(())
}

#[test]
fn a_segment_of_cancelled_work() -> Result<()> {
    let cancel = CancelToken::new();
    cancel.cancel();
    let tape = Tape::inference().with_cancel(&cancel);
    let x = tape.constant(pseudo_random(&[2, 3], 1)?);
    let error = tape.segment(&[&x], |tape, inputs| silu(tape, &inputs[0])).unwrap_err();
    assert_eq!(provoked_by(&error), "a_segment_of_cancelled_work");
    Ok(())
}

#[test]
fn a_device_that_no_machine_has() {
    let error = DeviceChoice::Cuda(4095).open().unwrap_err();
    assert_eq!(provoked_by(&error), "a_device_that_no_machine_has");
    assert!(matches!(&error, Error::Device(what) if what.contains("`cuda:4095`")), "{error:?}");
}

#[test]
fn values_of_two_types() -> Result<()> {
    let tape = Tape::inference();
    let single = tape.constant(Tensor::new(&[1_f32, 2.0], &Device::Cpu)?);
    let error = mul(&tape, &single, &tape.constant(Tensor::new(&[1_f64, 2.0], &Device::Cpu)?)).unwrap_err();
    assert_eq!(provoked_by(&error), "values_of_two_types");
    Ok(())
}
