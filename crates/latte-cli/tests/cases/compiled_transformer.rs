//! The case `testdata/cases/compiled-transformer`.
