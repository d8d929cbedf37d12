//! The case `testdata/cases/prompt-cut-silently`.
