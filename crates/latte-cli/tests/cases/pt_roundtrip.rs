//! The case `testdata/cases/pt-roundtrip`.
