//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.

use std::io::ErrorKind;

use latte::{Clip, Error, GeneratedClip, Generator, Sidecar};

/// The test that provokes the variant: a new variant does not compile until it has one.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Cancelled => "generation/facade.rs: a_generator_stops_when_it_is_cancelled",
        Error::Config { .. } => "generation/facade.rs: requests_that_do_not_fit_name_the_field",
        Error::Model(_) => "a_checkpoint_that_is_not_there",
        Error::Video(_) => "a_clip_too_small_for_the_format",
        Error::Io { .. } => "a_file_that_is_not_there",
    }
}

#[test]
fn a_checkpoint_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let error = Generator::open(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "a_checkpoint_that_is_not_there");
    let Error::Model(latte_model::Error::Weights(latte_weights::Error::File { path, .. })) = &error else { panic!("{error:?}") };
    assert_eq!(*path, none);
}

#[test]
fn a_clip_too_small_for_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.mp4");
    let clip = Clip::new(vec![0; 2 * 4 * 4 * 3], [2, 4, 4, 3], 8.0).unwrap();
    let error = GeneratedClip { clip, name: "a".into(), label: "a".into(), class: None, seed: 0 }.save_mp4(&file).unwrap_err();
    assert_eq!(provoked_by(&error), "a_clip_too_small_for_the_format");
    assert!(matches!(&error, Error::Video(latte_video::Error::Format { path, .. }) if *path == file), "{error:?}");
}

/// One variant, whichever crate below found it.
#[test]
fn a_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (none, below) = (dir.path().join("none"), dir.path().join("file/none.safetensors"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let of_weights: Error = latte_weights::load(&below).unwrap_err().into();
    let of_model: Error = latte_model::vae::KlConfig::at(&none).unwrap_err().into();
    for (error, file, expected) in [
        (Sidecar::read(&none).unwrap_err(), &none, ErrorKind::NotFound),
        (of_model, &none, ErrorKind::NotFound),
        (of_weights, &below, ErrorKind::NotADirectory),
    ] {
        assert_eq!(provoked_by(&error), "a_file_that_is_not_there");
        assert!(matches!(&error, Error::Io { path, source } if path == file && source.kind() == expected), "{error:?}");
    }
}
