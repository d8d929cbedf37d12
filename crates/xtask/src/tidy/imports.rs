//! The rule for imports inside a crate: no cycles of files that use each other, directly or through others.

use std::collections::VecDeque;

use super::modules::{Crate, crates};
use super::{Problem, Tree};

/// Uses that are not counted, because they close existing cycles: prefix of the using file, prefix of the used file, and the
/// reason. An entry that closes no cycle any more must be removed.
const STILL_THERE: &[(&str, &str, &str)] = &[
    ("crates/latte-ops/src/backend/", "crates/latte-ops/src/ops/", "a backend computes what operations describe"),
    ("crates/latte-ops/src/backend/", "crates/latte-ops/src/optim/", "likewise"),
    ("crates/latte-ops/src/backend/", "crates/latte-ops/src/tape/", "a backend's results carry their backward functions"),
    ("crates/latte-ops/src/backend/value.rs", "crates/latte-ops/src/backend/cpu/", "a value is of one of the devices"),
    ("crates/latte-ops/src/backend/prepared.rs", "crates/latte-ops/src/backend/cpu/", "so are prepared weights"),
    (
        "crates/latte-ops/src/backend/cpu/gemm/tile.rs",
        "crates/latte-ops/src/backend/cpu/gemm/pack.rs",
        "tiles read packed operands",
    ),
    ("crates/latte-model/src/sampling/config.rs", "crates/latte-model/src/sampling/", "a configuration makes its sampler"),
];

/// Imports have no cycles.
pub(crate) fn circles(tree: &Tree) -> Vec<Problem> {
    circles_except(tree, STILL_THERE)
}

fn circles_except(tree: &Tree, still_there: &[(&str, &str, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut is_needed = vec![false; still_there.len()];
    for mut krate in crates(tree) {
        let left_out = leave_out(&mut krate, still_there);
        problems.extend(groups(&krate).iter().map(|group| problem(&krate, group)));
        for (entry, from, to) in left_out {
            // It closes a cycle if the counted uses lead back.
            is_needed[entry] |= before(&krate, to)[from].is_some();
        }
    }
    for ((from, to, _), _) in still_there.iter().zip(is_needed).filter(|(_, is_needed)| !is_needed) {
        let what = format!("`STILL_THERE`: no circle needs the entry for {from} and {to} any more; remove it");
        problems.push(Problem::new("crates/xtask/src/tidy/imports.rs", what));
    }
    problems
}

/// Removes the uses that are not counted; returns them, each with its entry.
fn leave_out(krate: &mut Crate<'_>, still_there: &[(&str, &str, &str)]) -> Vec<(usize, usize, usize)> {
    let mut left_out = Vec::new();
    let Crate { files, uses } = krate;
    for (from, uses) in uses.iter_mut().enumerate() {
        uses.retain(|to, _| {
            let is_meant = |(a, b, _): &(&str, &str, &str)| files[from].path.starts_with(a) && files[*to].path.starts_with(b);
            let entry = still_there.iter().position(is_meant);
            left_out.extend(entry.map(|entry| (entry, from, *to)));
            entry.is_none()
        });
    }
    left_out
}

/// The groups of files that use each other in cycles.
fn groups(krate: &Crate<'_>) -> Vec<Vec<usize>> {
    let all = 0..krate.files.len();
    let reached: Vec<Vec<bool>> = all.clone().map(|from| before(krate, from).iter().map(Option::is_some).collect()).collect();
    let group = |a: usize| all.clone().filter(|&b| reached[a][b] && reached[b][a]).collect::<Vec<_>>();
    // Each group once, listed by its first file.
    all.clone().map(|a| (a, group(a))).filter(|(a, group)| group.first() == Some(a)).map(|(_, group)| group).collect()
}

/// For every file that `from` uses, directly or indirectly, its predecessor on a shortest path.
fn before(krate: &Crate<'_>, from: usize) -> Vec<Option<usize>> {
    let mut before = vec![None; krate.files.len()];
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        for &next in krate.uses[file].keys() {
            if before[next].is_none() {
                before[next] = Some(file);
                queue.push_back(next);
            }
        }
    }
    before
}

/// The problem of a group: the shortest cycle through its first file.
fn problem(krate: &Crate<'_>, group: &[usize]) -> Problem {
    let first = group[0];
    let before = before(krate, first);
    let mut circle = vec![first];
    while let Some(file) = before[circle[circle.len() - 1]] {
        circle.push(file);
        if file == first {
            break;
        }
    }
    circle.reverse();
    let names: Vec<&str> = circle.iter().map(|file| krate.files[*file].path.as_str()).collect();
    let size = if group.len() + 1 > circle.len() { format!(", one of {} files", group.len()) } else { String::new() };
    let what = format!("an import circle{size}: {}; move what both need into a third file", names.join(" uses "));
    krate.files[first].problem_at(krate.uses[first][&circle[1]], what)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{found, tree};
    use super::*;

    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(String, &str)> = files.iter().map(|(path, text)| (format!("crates/x/src/{path}"), *text)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        found(|tree| circles_except(tree, &[]), &files)
    }

    #[test]
    fn two_files_that_use_each_other_are_found() {
        let found = lines(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "//! A.\nuse crate::b::B;\npub struct A;"),
            ("b.rs", "use super::a::A;\npub struct B;"),
        ]);
        let expected = "crates/x/src/a.rs:2: an import circle: crates/x/src/a.rs uses crates/x/src/b.rs uses crates/x/src/a.rs; \
                        move what both need into a third file";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_circle_is_found_in_every_syntax() {
        let lib = ("lib.rs", "mod a;\nmod b;\npub use b::{deep::Other, B as Renamed};\n");
        let back = [("b/mod.rs", "pub mod deep;\nuse crate::a::f;\npub struct B;"), ("b/deep.rs", "")];
        let deep = [("b/mod.rs", "pub mod deep;"), ("b/deep.rs", "use crate::a;\npub struct Other;\nfn g() { a::f() }")];
        for of_b in [
            "use crate::Renamed;",
            "fn h() -> crate::b::B {}",
            "use crate::{Error, b::{self, other}};\nfn h() { b::B }",
            "use crate::{x, b};\nfn h() { if x { b::B } }",
            "mod inside { use super::super::b::B; }",
            "pub use crate::b::B;\nfn h() -> B {}",
            "impl crate::b::B {}",
        ] {
            assert_eq!(lines(&[&[lib], &back[..], &[("a.rs", of_b)]].concat()).len(), 1, "{of_b}");
            assert_eq!(lines(&[&[lib], &deep[..], &[("a.rs", of_b)]].concat()), Vec::<String>::new(), "{of_b}");
        }
        for of_deep in ["use crate::Other;", "use crate::b::deep::Other as _;", "use crate::b;\nfn h() { b::deep::Other }"] {
            assert_eq!(lines(&[&[lib], &deep[..], &[("a.rs", of_deep)]].concat()).len(), 1, "{of_deep}");
            assert_eq!(lines(&[&[lib], &back[..], &[("a.rs", of_deep)]].concat()), Vec::<String>::new(), "{of_deep}");
        }
    }

    #[test]
    fn an_indirect_circle_is_found_once() {
        let found = lines(&[
            ("a/mod.rs", "mod one;"),
            ("b/mod.rs", "mod two;\nmod four;"),
            ("c/mod.rs", "mod three;"),
            ("a/one.rs", "use crate::b::two::Two;"),
            ("b/two.rs", "use crate::c::three::Three; use super::four::Four;"),
            ("b/four.rs", "use super::two::Two;"),
            ("c/three.rs", "use crate::a::one::One;"),
            ("d.rs", "use crate::a::one::One;"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("one of 4 files: crates/x/src/a/one.rs uses crates/x/src/b/two.rs uses"), "{found:?}");
    }

    #[test]
    fn uses_without_a_circle_are_allowed() {
        let b = ("b.rs", "use crate::a::A;");
        for a in [
            "// use crate::b::B;\nconst TEXT: &str = \"crate::b::B\";",
            "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}",
            "#[cfg(test)]\nuse crate::b::B;\nfn f() {}",
            "fn f(x: X) { match x {\n    #[cfg(test)]\n    X::Y => crate::b::g(),\n    X::Z => {}\n} }",
            "pub use crate::b::B;",
            "use b::B;\nuse serde::b;\nfn f() { x.b::<u8>(); serde::b::c() }",
            "use crate::a::b;",
        ] {
            assert_eq!(lines(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", a), b]), Vec::<String>::new(), "{a}");
        }
        let parent_and_child = [("a/mod.rs", "mod b;\nuse b::B;\nstruct A;"), ("a/b.rs", "use super::A;\nuse super::tests::T;")];
        assert_eq!(lines(&parent_and_child), Vec::<String>::new());
        let of_tests = [("a/mod.rs", "#[cfg(test)]\nmod tests;\nstruct A;"), ("a/tests.rs", "use crate::b::B;"), b];
        assert_eq!(lines(&of_tests), Vec::<String>::new());
        let other_crates = [("crates/x/src/a.rs", "use crate::b::B;"), ("crates/y/src/b.rs", "use crate::a::A;")];
        assert_eq!(found(|tree| circles_except(tree, &[]), &other_crates), Vec::<String>::new());
    }

    #[test]
    fn a_listed_circle_is_allowed_until_it_is_resolved() {
        let one = ("crates/x/src/one.rs", "use crate::b::B;");
        let circle = tree(&[one, ("crates/x/src/b.rs", "use crate::one::A;")]);
        let entry = [("crates/x/src/o", "crates/x/src/b.rs", "")];
        assert_eq!(circles_except(&circle, &[]).len(), 1);
        assert_eq!(circles_except(&circle, &entry), []);
        let gone = tree(&[one, ("crates/x/src/b.rs", "")]);
        let said = circles_except(&gone, &entry)[0].to_string();
        assert!(
            said.ends_with("no circle needs the entry for crates/x/src/o and crates/x/src/b.rs any more; remove it"),
            "{said}"
        );
    }
}
