//! Provokes every error of this crate through its public functions and matches variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.

use std::io::ErrorKind;

use latte_eval::Error;
use latte_eval::clips::ClipSet;
use latte_eval::detector::{Kind, Setup, random_i3d_identity};
use latte_eval::extract::merge;
use latte_eval::interop::{open_features, open_matrix};
use latte_eval::metric::Features;
use latte_eval::protocol::{Protocol, Task};
use latte_ops::Parameters;
use latte_video::Decoder;
use latte_video::dataset::{Layout, Location};

/// The test that provokes the variant. This match fails to compile for a new variant until it has a test.
///
/// Networks check weights and sizes before they compute, so an operation or the tensor library fails only if memory runs out or the
/// program has a bug: both variants have exit code 1 (`latte-cli`, `src/failure.rs`).
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Refused { .. } => "features_that_make_no_rows",
        Error::File { .. } => "a_file_without_the_matrix",
        Error::Io { .. } => "parts_that_are_not_there",
        Error::Weights(_) => "weights_that_are_not_there",
        Error::Video(_) => "videos_that_are_not_there",
        Error::Ops(_) | Error::Tensor(_) => "no test: faults of the program or of the machine",
    }
}

#[test]
fn features_that_make_no_rows() {
    let error = Features::new(vec![1.0; 3], 2, "the real set").unwrap_err();
    assert_eq!(provoked_by(&error), "features_that_make_no_rows");
    let fits = |what: &str| what.starts_with("3 values are no rows of 2");
    assert!(matches!(&error, Error::Refused { subject, what } if subject == "the real set" && fits(what)), "{error:?}");
}

#[test]
fn a_file_without_the_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.safetensors");
    latte_weights::save(&file, &Parameters::new(), None).unwrap();
    let error = open_matrix(&file, Some("x")).unwrap_err();
    assert_eq!(provoked_by(&error), "a_file_without_the_matrix");
    assert!(matches!(&error, Error::File { path, what } if *path == file && what.contains("no `x`")), "{error:?}");
}

#[test]
fn parts_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let error = merge(std::slice::from_ref(&none)).unwrap_err();
    assert_eq!(provoked_by(&error), "parts_that_are_not_there");
    assert!(matches!(&error, Error::Io { path, source } if *path == none && source.kind() == ErrorKind::NotFound), "{error:?}");
}

#[test]
fn weights_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.npz");
    let error = open_features(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "weights_that_are_not_there");
    assert!(matches!(&error, Error::Weights(latte_weights::Error::Io { path, .. }) if *path == none), "{error:?}");
    let identity = random_i3d_identity(0, Setup::default());
    let error = Kind::I3d.build(&Parameters::new(), identity, Setup::default()).err().unwrap();
    assert_eq!(provoked_by(&error), "weights_that_are_not_there");
    let Error::Weights(latte_weights::Error::Ops(latte_ops::Error::MissingParameter(name))) = &error else { panic!("{error:?}") };
    assert!(!name.is_empty());
}

#[test]
fn videos_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let protocol = Protocol::named("latte", Task::Fvd, Some(2)).unwrap();
    let location = Location::new(Layout::Folder, &none);
    let error = ClipSet::open(&location, &protocol.real.unwrap(), &protocol, Decoder::BuiltIn, "real").err().unwrap();
    assert_eq!(provoked_by(&error), "videos_that_are_not_there");
    assert!(matches!(&error, Error::Video(_)) && error.to_string().contains(&none.display().to_string()), "{error:?}");
}
