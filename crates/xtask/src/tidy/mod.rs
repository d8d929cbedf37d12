//! The rules of the source tree; each is a function from the tree to the problems that it finds.
//!
//! A new rule is one function and one line in [`RULES`].

mod boundaries;
mod documents;
mod imports;
mod models;
mod modules;
mod operations;
mod source;
mod strip;
#[cfg(test)]
mod testing;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// All rules.
const RULES: &[fn(&Tree) -> Vec<Problem>] = &[
    source::length,
    source::vague_names,
    source::opening_comment,
    source::unfinished,
    boundaries::workspace_crates,
    boundaries::foreign_crates,
    boundaries::workspace_lints,
    boundaries::unsafe_code,
    boundaries::device_features,
    boundaries::diffusion_sees_no_model,
    imports::circles,
    operations::operations_know_no_device,
    operations::one_dispatch,
    models::models_know_no_device,
    documents::readme_length,
    documents::changelog,
    documents::size,
    documents::links,
];

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct File {
    /// Its path from the root of the tree, with forward slashes.
    pub(crate) path: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Its text; empty if it is not text.
    pub(crate) text: String,
}

/// All files that are under version control, or are new and not ignored.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// The Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.extension() == "rs")
    }

    /// The manifests of the crates, each with the name of the crate's folder.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().filter_map(|f| {
            let name = f.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some((name, f))
        })
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }
}

impl File {
    pub(crate) fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|e| e.to_str()).unwrap_or_default()
    }

    /// A problem with this file.
    pub(crate) fn problem(&self, what: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line: None, what: what.into() }
    }

    /// A problem at the byte `offset` of this file.
    pub(crate) fn problem_at(&self, offset: usize, what: impl Into<String>) -> Problem {
        let line = self.text[..offset].matches('\n').count() + 1;
        Problem { path: self.path.clone(), line: Some(line), what: what.into() }
    }
}

/// A broken rule: the location, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Problem {
    /// A problem that belongs to no existing file.
    pub(crate) fn new(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// Runs all rules on the tree that this program was built from; returns the number of files and the problems.
///
/// # Errors
///
/// If the tree cannot be listed or read.
pub(crate) fn check_tree() -> anyhow::Result<(usize, Vec<Problem>)> {
    let tree = read_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let problems = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    Ok((tree.files.len(), problems))
}

fn read_tree(root: &Path) -> anyhow::Result<Tree> {
    // New files that are not ignored count, too, so that problems are found before a commit.
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("git did not start")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut tree = Tree::default();
    for path in names.split('\0').filter(|name| !name.is_empty()) {
        let full = root.join(path);
        // A deleted file whose deletion is not committed yet.
        if !full.exists() {
            continue;
        }
        let content = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        let bytes = content.len() as u64;
        tree.files.push(File { path: path.into(), bytes, text: String::from_utf8(content).unwrap_or_default() });
    }
    if tree.files.is_empty() {
        bail!("git lists no files in {}", root.display());
    }
    Ok(tree)
}
