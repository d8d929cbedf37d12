//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command shows each as a
//! golden file that failed, and ends with exit code 1.

use std::io::ErrorKind;

use golden::{Case, GoldenError};

/// The test that provokes the variant: a new variant does not compile until it has one.
fn provoked_by(error: &GoldenError) -> &'static str {
    match error {
        GoldenError::Read { .. } => "a_file_that_is_not_there",
        GoldenError::Format { .. } => "a_file_of_something_else",
    }
}

#[test]
fn a_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.safetensors");
    let error = Case::read(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "a_file_that_is_not_there");
    assert!(
        matches!(&error, GoldenError::Read { path, source } if *path == none && source.kind() == ErrorKind::NotFound),
        "{error:?}"
    );
}

#[test]
fn a_file_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.safetensors");
    std::fs::write(&file, "no golden file").unwrap();
    let error = Case::read(&file).unwrap_err();
    assert_eq!(provoked_by(&error), "a_file_of_something_else");
    let fits = |what: &str| what.starts_with("no safetensors file");
    assert!(matches!(&error, GoldenError::Format { path, what } if *path == file && fits(what)), "{error:?}");
}
