//! The case `testdata/cases/readonly-cache`.
