//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use candle_core::{DType, Device, Tensor};
use latte_ops::Parameters;
use latte_weights::{Error, TensorSource, expect_tensor, load, save};

/// The test that provokes the variant: a new variant does not compile until it has one. A missing file is also in `src/lib.rs`.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::File { .. } => "a_file_of_something_else",
        Error::Shape { .. } => "a_tensor_of_another_shape",
        Error::Io { .. } => "a_path_below_a_file",
        Error::Tensor(_) => "a_type_that_values_cannot_have",
        Error::Ops(_) => "a_tensor_that_is_not_there",
    }
}

fn weights() -> Parameters {
    [("w".to_string(), Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap())].into_iter().collect()
}

#[test]
fn a_file_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.safetensors");
    std::fs::write(&file, "no weights at all").unwrap();
    let error = load(&file).unwrap_err();
    assert_eq!(provoked_by(&error), "a_file_of_something_else");
    assert!(matches!(&error, Error::File { path, what } if *path == file && !what.is_empty()), "{error:?}");
}

#[test]
fn a_tensor_of_another_shape() {
    let error = expect_tensor(&weights(), "w", &[3]).unwrap_err();
    assert_eq!(provoked_by(&error), "a_tensor_of_another_shape");
    assert!(
        matches!(&error, Error::Shape { name, expected, got } if name == "w" && expected == "[3]" && *got == [2]),
        "{error:?}"
    );
}

#[test]
fn a_path_below_a_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let below = dir.path().join("file/w.safetensors");
    for error in [save(&below, &weights(), None).unwrap_err(), load(&below).unwrap_err()] {
        assert_eq!(provoked_by(&error), "a_path_below_a_file");
        let is_it = |path: &std::path::Path, kind| path == below && kind == std::io::ErrorKind::NotADirectory;
        assert!(matches!(&error, Error::Io { path, source } if is_it(path, source.kind())), "{error:?}");
    }
}

#[test]
fn a_type_that_values_cannot_have() {
    let error = weights().tensor("w", DType::F4, &Device::Cpu).unwrap_err();
    assert_eq!(provoked_by(&error), "a_type_that_values_cannot_have");
}

#[test]
fn a_tensor_that_is_not_there() {
    let error = expect_tensor(&weights(), "v", &[2]).unwrap_err();
    assert_eq!(provoked_by(&error), "a_tensor_that_is_not_there");
    assert!(matches!(&error, Error::Ops(latte_ops::Error::MissingParameter(name)) if name == "v"), "{error:?}");
}
