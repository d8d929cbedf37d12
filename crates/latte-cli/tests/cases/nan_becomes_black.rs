//! The case `testdata/cases/nan-becomes-black`.
