//! The case `testdata/cases/h264-noise`.
