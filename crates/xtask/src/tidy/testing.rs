//! Synthetic trees for the tests of the rules.

use super::{File, Problem, Tree};

/// A tree with the given paths and texts.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let files = files.iter().map(|(path, text)| File { path: (*path).into(), bytes: text.len() as u64, text: (*text).into() });
    Tree { files: files.collect() }
}

/// The problems that a rule finds in a synthetic tree, as lines.
pub(crate) fn found(rule: fn(&Tree) -> Vec<Problem>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&tree(files)).iter().map(ToString::to_string).collect()
}
