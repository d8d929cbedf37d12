//! The case `testdata/cases/readme-own-videos`.
