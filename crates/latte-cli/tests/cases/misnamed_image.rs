//! The case `testdata/cases/misnamed-image`.
