//! A run that is killed and resumed ends with the same bits as one that is not.

fn main() {}
