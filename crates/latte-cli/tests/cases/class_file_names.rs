//! The case `testdata/cases/class-file-names`.
