//! Rules for Rust sources: length, names, first line, unfinished code.

use super::strip::{code_only, is_whole_word};
use super::{Problem, Tree};

/// Maximum number of lines; 400 is the usual limit.
const MAX_LINES: usize = 600;

/// Names that say nothing about the contents of a file, and so attract everything.
const VAGUE: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

/// No Rust file is longer than 600 lines.
pub(crate) fn length(tree: &Tree) -> Vec<Problem> {
    let long = tree.rust().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > MAX_LINES).then(|| file.problem(format!("{lines} lines, {MAX_LINES} are allowed: split it by noun")))
    });
    long.collect()
}

/// No file or folder of the sources has a vague name.
pub(crate) fn vague_names(tree: &Tree) -> Vec<Problem> {
    let vague = tree.rust().filter_map(|file| {
        let part = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part)).find(|part| VAGUE.contains(part))?;
        Some(
            file.problem(format!("`{part}` says nothing about what is inside: name it for its noun, or put it where it is used")),
        )
    });
    vague.collect()
}

/// The first line of every Rust file describes the file.
pub(crate) fn opening_comment(tree: &Tree) -> Vec<Problem> {
    let bare = tree.rust().filter(|file| {
        let first = file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|rest| rest.trim().is_empty())
    });
    bare.map(|file| file.problem("the first line must be a `//!` comment that says what the file is")).collect()
}

/// Nothing is unfinished: no `todo!`, no `unimplemented!`, no ignored test.
pub(crate) fn unfinished(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.rust() {
        let code = code_only(&file.text);
        for word in ["todo!", "unimplemented!"] {
            for (offset, _) in code.match_indices(word) {
                if is_whole_word(&code, offset, word.trim_end_matches('!')) {
                    problems.push(file.problem_at(offset, format!("`{word}`: write it, or leave it out")));
                }
            }
        }
        for (offset, _) in code.match_indices("ignore") {
            let before = code[..offset].trim_end();
            if is_whole_word(&code, offset, "ignore") && (before.ends_with("#[") || is_conditional_attribute(before)) {
                problems.push(file.problem_at(offset, "an ignored test: fix it, or assert what happens today and say so"));
            }
        }
    }
    problems
}

/// Whether code that ends with `before` is inside `#[cfg_attr(…`.
fn is_conditional_attribute(before: &str) -> bool {
    before.rfind("cfg_attr(").is_some_and(|start| !before[start..].contains(']'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn a_long_file_is_found() {
        let long = "//! x\n".repeat(MAX_LINES + 1);
        let fits = "//! x\n".repeat(MAX_LINES);
        let found = found(length, &[("a.rs", &long), ("b.rs", &fits), ("c.txt", &long)]);
        assert_eq!(found, ["a.rs: 601 lines, 600 are allowed: split it by noun"]);
    }

    #[test]
    fn a_vague_name_is_found_as_file_and_as_folder() {
        let files = [
            ("crates/a/src/utils.rs", ""),
            ("crates/a/tests/common/mod.rs", ""),
            ("crates/a/src/helper.rs", ""),
            ("crates/a/src/uncommon.rs", ""),
            ("docs/misc/a.md", ""),
        ];
        let found = found(vague_names, &files);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/utils.rs: `utils`"));
        assert!(found[1].starts_with("crates/a/tests/common/mod.rs: `common`"));
    }

    #[test]
    fn a_file_without_an_opening_comment_is_found() {
        let files = [("a.rs", "use x;\n"), ("b.rs", "//! B.\n"), ("c.rs", "//!\n"), ("d.rs", ""), ("e.rs", "// E.\n")];
        let found = found(opening_comment, &files);
        let paths: Vec<&str> = found.iter().map(|p| p.split(':').next().unwrap_or_default()).collect();
        assert_eq!(paths, ["a.rs", "c.rs", "d.rs", "e.rs"]);
    }

    #[test]
    fn unfinished_code_is_found_outside_strings_and_comments() {
        let text = "//! a: todo!\nfn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\n#[ignore]\n#[ignore = \"slow\"]\n";
        assert_eq!(found(unfinished, &[("a.rs", text)]).len(), 4);
        let conditional = "#[cfg_attr(debug_assertions, ignore)]\nfn f() {}";
        assert_eq!(found(unfinished, &[("a.rs", conditional)]).len(), 1);
        let fine = "let s = \"todo!()\"; // #[ignore]\nlet ignore = 1; mytodo!();";
        assert_eq!(found(unfinished, &[("a.rs", fine)]), Vec::<String>::new());
    }
}
