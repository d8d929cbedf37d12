//! The case `testdata/cases/frame-order`.
