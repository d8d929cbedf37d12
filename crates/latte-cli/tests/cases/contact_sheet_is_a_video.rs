//! The case `testdata/cases/contact-sheet-is-a-video`.
