//! The case `testdata/cases/overwritten-by-other-settings`.
