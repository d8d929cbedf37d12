//! The case `testdata/cases/byte-order-mark`.
