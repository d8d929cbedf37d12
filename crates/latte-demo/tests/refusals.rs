//! Provokes every error of this crate through its public functions and matches variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.

use std::io::ErrorKind;

use latte_demo::{Error, dataset, measure_folder};

/// The test that provokes the variant. This match fails to compile for a new variant until it has a test.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::NoClass { .. } => "a_video_of_no_class",
        Error::Video(_) => "a_folder_that_is_not_there",
        Error::Io { .. } => "a_data_set_below_a_file",
    }
}

#[test]
fn a_video_of_no_class() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holiday.mp4");
    std::fs::write(&file, "").unwrap();
    let error = measure_folder(dir.path()).unwrap_err();
    assert_eq!(provoked_by(&error), "a_video_of_no_class");
    assert!(matches!(&error, Error::NoClass { path } if *path == file), "{error:?}");
}

#[test]
fn a_folder_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let error = measure_folder(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "a_folder_that_is_not_there");
    let fits = |kind| kind == ErrorKind::NotFound;
    assert!(
        matches!(&error, Error::Video(latte_video::Error::Io { path, source }) if *path == none && fits(source.kind())),
        "{error:?}"
    );
}

#[test]
fn a_data_set_below_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = dataset::write(&file, 1, 0).unwrap_err();
    assert_eq!(provoked_by(&error), "a_data_set_below_a_file");
    let fits = |kind| kind == ErrorKind::NotADirectory;
    assert!(matches!(&error, Error::Io { path, source } if path.starts_with(&file) && fits(source.kind())), "{error:?}");
}
