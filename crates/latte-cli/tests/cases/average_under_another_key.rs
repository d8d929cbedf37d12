//! The case `testdata/cases/average-under-another-key`.
