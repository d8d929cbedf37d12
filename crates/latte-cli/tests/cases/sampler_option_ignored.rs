//! The case `testdata/cases/sampler-option-ignored`.
