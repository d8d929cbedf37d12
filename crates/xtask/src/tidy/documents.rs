//! Rules for documents and data: README, changelog, file sizes, links.

use super::{File, Problem, Tree};

/// README must be short enough to read as a whole; longer texts have their own pages.
const README_LINES: usize = 120;

/// Keeps the repository quick to clone.
const MAX_BYTES: u64 = 4 << 20;

/// README exists and is at most 120 lines.
pub(crate) fn readme_length(tree: &Tree) -> Vec<Problem> {
    let Some(file) = tree.file("README.md") else { return vec![Problem::new("README.md", "is missing")] };
    let lines = file.text.lines().count();
    if lines > README_LINES { vec![file.problem(format!("{lines} lines, {README_LINES} are allowed"))] } else { Vec::new() }
}

/// The changelog has a section for unreleased changes.
pub(crate) fn changelog(tree: &Tree) -> Vec<Problem> {
    let Some(file) = tree.file("CHANGELOG.md") else { return vec![Problem::new("CHANGELOG.md", "is missing")] };
    let has = file.text.lines().any(|line| line.starts_with("## ") && line.to_lowercase().contains("unreleased"));
    if has { Vec::new() } else { vec![file.problem("needs a section `## Unreleased`")] }
}

/// No file is larger than 4 MiB.
pub(crate) fn size(tree: &Tree) -> Vec<Problem> {
    let large = tree.files.iter().filter(|file| file.bytes > MAX_BYTES);
    large.map(|file| file.problem(format!("{} KiB, {} are allowed", file.bytes >> 10, MAX_BYTES >> 10))).collect()
}

/// Every relative link of a document points to an existing file or folder.
pub(crate) fn links(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|f| f.extension() == "md") {
        for (offset, target) in targets(file) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            let foreign = target.contains("://") || target.starts_with("mailto:");
            if foreign || path.is_empty() {
                continue;
            }
            let resolved = resolve(&file.path, path);
            let exists = resolved.as_deref().is_some_and(|path| {
                path.is_empty() || tree.files.iter().any(|f| f.path == path || f.path.starts_with(&format!("{path}/")))
            });
            if !exists {
                problems.push(file.problem_at(offset, format!("the link to `{target}` points to no file")));
            }
        }
    }
    problems
}

/// The targets of all links and images of a document, outside code, with their offsets.
fn targets(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced {
            let line_without_code = blank_code_spans(line);
            for (at, _) in line_without_code.match_indices("](") {
                let rest = &line[at + 2..];
                let target = rest.split(')').next().unwrap_or_default();
                // `[text](target "title")`
                let target = target.split_whitespace().next().unwrap_or_default();
                found.push((start + at, target.trim_matches(['<', '>']).to_string()));
            }
            if let Some((_, target)) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
                found.push((start, target.split_whitespace().next().unwrap_or_default().to_string()));
            }
        }
        start += line.len();
    }
    found
}

/// A line with the code between backticks replaced, with the same length.
fn blank_code_spans(line: &str) -> String {
    let mut inside = false;
    let blanked = line.bytes().map(|byte| {
        if byte == b'`' {
            inside = !inside;
        }
        if inside || !byte.is_ascii() { b' ' } else { byte }
    });
    blanked.map(char::from).collect()
}

/// Resolves `target` in the document at `from` to a path from the root; `None` if it is outside the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{found, tree};
    use super::*;

    #[test]
    fn a_long_or_missing_readme_is_found() {
        assert_eq!(found(readme_length, &[("README.md", &"x\n".repeat(121))]).len(), 1);
        assert_eq!(found(readme_length, &[("README.md", &"x\n".repeat(120))]), Vec::<String>::new());
        assert_eq!(found(readme_length, &[("docs/README.md", "x")]), ["README.md: is missing"]);
    }

    #[test]
    fn a_changelog_without_unreleased_is_found() {
        assert_eq!(found(changelog, &[("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n")]), Vec::<String>::new());
        assert_eq!(found(changelog, &[("CHANGELOG.md", "# Changelog\n\n## 0.1.0\n\nunreleased\n")]).len(), 1);
        assert_eq!(found(changelog, &[]).len(), 1);
    }

    #[test]
    fn a_large_file_is_found() {
        let mut tree = tree(&[("a.bin", ""), ("b.bin", "")]);
        tree.files[0].bytes = MAX_BYTES + 1;
        tree.files[1].bytes = MAX_BYTES;
        let problems = size(&tree);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().starts_with("a.bin"));
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](there.md) [b](gone.md)\n![c](img/x.png \"title\") [d](https://example.org) [e](#here)\n\
                    [f](../README.md#top) [g](sub/) `[h](code.md)`\n```\n[i](fenced.md)\n```\n[j](../../out.md)\n[k]: missing.md\n";
        let files = [("docs/a.md", text), ("docs/there.md", ""), ("README.md", ""), ("docs/sub/x.md", "")];
        let found = found(links, &files);
        let expected = [
            "docs/a.md:1: the link to `gone.md` points to no file",
            "docs/a.md:2: the link to `img/x.png` points to no file",
            "docs/a.md:7: the link to `../../out.md` points to no file",
            "docs/a.md:8: the link to `missing.md` points to no file",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn links_in_lines_with_letters_outside_ascii_are_read_whole() {
        let found = found(links, &[("a.md", "– ü [x](gone–ü.md)\n")]);
        assert_eq!(found, ["a.md:1: the link to `gone–ü.md` points to no file"]);
    }
}
