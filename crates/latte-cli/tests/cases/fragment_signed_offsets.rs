//! The case `testdata/cases/fragment-signed-offsets`.
