//! The latte command.

fn main() {}
