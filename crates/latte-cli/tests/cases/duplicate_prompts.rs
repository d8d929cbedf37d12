//! The case `testdata/cases/duplicate-prompts`.
