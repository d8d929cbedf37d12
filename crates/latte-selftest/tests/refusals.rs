//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit code is
//! tested in `latte-cli`, `tests/refusals.rs`.

use candle_core::Device;
use latte_selftest::{Error, golden_files};

/// The test that provokes the variant: a new variant does not compile until it has one.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Golden(_) => "golden_files_that_are_not_there",
    }
}

#[test]
fn golden_files_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_path_buf(), dir.path().join("none")] {
        let error = golden_files(&Device::Cpu, &folder, &mut |report| panic!("{report}")).unwrap_err();
        assert_eq!(provoked_by(&error), "golden_files_that_are_not_there");
        let Error::Golden(what) = &error;
        assert!(what.contains(&folder.display().to_string()), "{error:?}");
    }
}
