//! The case `testdata/cases/auto-hides-damage`.
