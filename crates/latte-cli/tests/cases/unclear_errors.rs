//! The case `testdata/cases/unclear-errors`.
