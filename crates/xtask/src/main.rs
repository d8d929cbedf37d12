//! Checks of the source tree itself.

fn main() {}
