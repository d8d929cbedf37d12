//! The case `testdata/cases/plot-axes`.
