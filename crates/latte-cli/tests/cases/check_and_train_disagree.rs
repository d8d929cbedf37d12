//! The case `testdata/cases/check-and-train-disagree`.
