//! The case `testdata/cases/rows-lost-by-nan`.
