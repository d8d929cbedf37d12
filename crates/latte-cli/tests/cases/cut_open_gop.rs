//! The case `testdata/cases/cut-open-gop`.
