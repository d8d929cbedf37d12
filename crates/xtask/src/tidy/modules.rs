//! Finds which file of a crate uses what another file defines.
//!
//! Code is read as tokens, not compiled: `use` declarations and paths are followed through the modules and re-exports of the crate
//! to the file that defines the name. Not counted are uses in tests, names in strings of attributes, and uses of an enclosing
//! module, which counts as the same unit.

use std::collections::{BTreeMap, BTreeSet};

use super::strip::code_only;
use super::{File, Tree};

/// The path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The files of one crate and their uses of each other.
pub(crate) struct Crate<'t> {
    pub(crate) files: Vec<&'t File>,
    /// For every file, the files that it uses, with the offset of the first use.
    pub(crate) uses: Vec<BTreeMap<usize, usize>>,
}

/// All crates of the tree.
pub(crate) fn crates(tree: &Tree) -> Vec<Crate<'_>> {
    let mut roots: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in tree.rust() {
        if let Some(at) = file.path.find("/src/") {
            roots.entry(&file.path[..at + 5]).or_default().push(file);
        }
    }
    roots.into_iter().map(|(root, files)| Crate::new(root, files)).collect()
}

impl<'t> Crate<'t> {
    fn new(root: &str, files: Vec<&'t File>) -> Self {
        let mut read: Vec<(&File, Module, Contents)> = files
            .into_iter()
            .filter_map(|file| Some((file, module_of(file.path.strip_prefix(root)?)?, Contents::read(&file.text))))
            .collect();
        let tests: Vec<Module> = read
            .iter()
            .flat_map(|(_, module, contents)| {
                contents.tests.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat())
            })
            .collect();
        read.retain(|(_, module, _)| !tests.iter().any(|test| module.starts_with(test)));

        let mut names = Names::default();
        for (number, (_, module, contents)) in read.iter().enumerate() {
            names.modules.insert(module.clone(), number);
            for inner in &contents.modules {
                names.modules.insert([module.as_slice(), inner].concat(), number);
            }
        }
        for (_, module, contents) in &read {
            for import in &contents.imports {
                let at = [module.as_slice(), &import.module].concat();
                names.imports.entry((at, import.name.clone())).or_insert_with(|| import.path.clone());
            }
        }
        let uses = read.iter().enumerate().map(|(number, (_, module, contents))| {
            let mut uses = BTreeMap::new();
            let imports = contents.imports.iter().filter(|i| !i.is_public || contents.words.contains(&i.name));
            let imports = imports.map(|i| (&i.module, &i.path, i.offset));
            for (inner, path, offset) in imports.chain(contents.paths.iter().map(|p| (&p.module, &p.path, p.offset))) {
                let at = [module.as_slice(), inner].concat();
                if let Some(other) =
                    names.file(&at, path, 0).filter(|other| *other != number && !module.starts_with(&read[*other].1))
                {
                    let first = uses.entry(other).or_insert(offset);
                    *first = offset.min(*first);
                }
            }
            uses
        });
        Self { uses: uses.collect(), files: read.iter().map(|(file, ..)| *file).collect() }
    }
}

/// The module of a file in `src`; `None` for additional programs of a crate, which no file imports.
fn module_of(path: &str) -> Option<Module> {
    let path = path.strip_suffix(".rs")?;
    let mut module: Module = path.split('/').map(String::from).collect();
    if module.first().is_some_and(|first| first == "bin") {
        return None;
    }
    if module.last().is_some_and(|last| last == "mod") || path == "lib" || path == "main" {
        module.pop();
    }
    Some(module)
}

/// The names of a crate's modules, and their imports.
#[derive(Default)]
struct Names {
    modules: BTreeMap<Module, usize>,
    imports: BTreeMap<(Module, String), Vec<String>>,
}

impl Names {
    /// The file that defines what `path` names in the module `at`; `None` for a module, or a name of another crate.
    fn file(&self, at: &[String], path: &[String], depth: usize) -> Option<usize> {
        // An import of a foreign name by itself would never end.
        if depth > 16 {
            return None;
        }
        let (mut module, mut rest) = (at.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => (module, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                module.push(first.into());
                if !self.modules.contains_key(&module) {
                    return self.imported(at, path, depth);
                }
                rest = &path[1..];
            }
        }
        while let Some(name) = rest.first() {
            if name == "super" {
                module.pop()?;
            } else {
                module.push(name.clone());
                if !self.modules.contains_key(&module) {
                    module.pop();
                    let is_imported = self.imports.contains_key(&(module.clone(), name.clone()));
                    return if is_imported { self.imported(&module, rest, depth) } else { self.modules.get(&module).copied() };
                }
            }
            rest = &rest[1..];
        }
        None
    }

    /// The same for a path that begins with an import of the module `at`.
    fn imported(&self, at: &[String], path: &[String], depth: usize) -> Option<usize> {
        let target = self.imports.get(&(at.to_vec(), path[0].clone()))?;
        self.file(at, &[target, &path[1..]].concat(), depth + 1)
    }
}

/// A name that a module imports.
struct Import {
    module: Module,
    name: String,
    path: Vec<String>,
    is_public: bool,
    offset: usize,
}

/// A path in code.
struct Use {
    module: Module,
    path: Vec<String>,
    offset: usize,
}

/// The relevant contents of a file.
#[derive(Default)]
struct Contents {
    imports: Vec<Import>,
    paths: Vec<Use>,
    /// Identifiers outside imports.
    words: BTreeSet<String>,
    /// Modules inside the file.
    modules: Vec<Module>,
    /// Modules that only tests use.
    tests: Vec<String>,
}

impl Contents {
    fn read(text: &str) -> Self {
        let code = code_only(text);
        let mut contents = Self::default();
        let all = tokens(&code);
        let tokens = contents.without_tests(&all);
        // Enclosing modules, each with its brace depth.
        let (mut inside, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
        let mut at = 0;
        while at < tokens.len() {
            let Token { word, offset } = tokens[at];
            let next = |n: usize| tokens.get(at + n).map_or("", |t| t.word);
            let module = || inside.iter().map(|(name, _)| name.clone()).collect::<Module>();
            let before = at.checked_sub(1).map_or("", |before| tokens[before].word);
            match word {
                "{" => depth += 1,
                "}" => {
                    inside.pop_if(|(_, inner)| *inner == depth);
                    depth = depth.saturating_sub(1);
                }
                "mod" if next(2) == "{" => {
                    inside.push((next(1).into(), depth + 1));
                    contents.modules.push(inside.iter().map(|(name, _)| name.clone()).collect());
                    at += 1;
                }
                // `use<'a>` in types is not an import.
                "use" if next(1) != "<" => {
                    let is_public = matches!(before, "pub" | ")");
                    let mut leaves = Vec::new();
                    at = use_tree(&tokens, at + 1, &[], &mut leaves);
                    let imports =
                        leaves.into_iter().map(|(name, path)| Import { module: module(), name, path, is_public, offset });
                    contents.imports.extend(imports);
                }
                _ if is_name(word) => {
                    contents.words.insert(word.into());
                    let mut path = vec![word.to_string()];
                    while tokens.get(at + 1).is_some_and(|t| t.word == "::")
                        && tokens.get(at + 2).is_some_and(|t| is_name(t.word))
                    {
                        path.push(tokens[at + 2].word.into());
                        at += 2;
                    }
                    if path.len() > 1 && !matches!(before, "::" | ".") {
                        contents.paths.push(Use { module: module(), path, offset });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        contents
    }

    /// The tokens without test-only items; records the modules of such items.
    fn without_tests<'t>(&mut self, tokens: &[Token<'t>]) -> Vec<Token<'t>> {
        const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut left = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if !MARK.iter().enumerate().all(|(i, word)| tokens.get(at + i).is_some_and(|t| t.word == *word)) {
                left.push(tokens[at]);
                at += 1;
                continue;
            }
            at += MARK.len();
            let (mut depth, mut is_item) = (0_usize, false);
            while let Some(token) = tokens.get(at) {
                if depth == 0 && token.word == "mod" {
                    self.tests.extend(tokens.get(at + 1).map(|t| t.word.to_string()));
                }
                is_item |= depth == 0 && matches!(token.word, "fn" | "impl" | "use" | "mod" | "struct" | "enum");
                at += 1;
                match token.word {
                    "{" | "(" | "[" => depth += 1,
                    "}" if depth == 1 => break,
                    "}" | ")" | "]" => depth = depth.saturating_sub(1),
                    ";" if depth == 0 => break,
                    // The end of an arm of a `match`, a field or a variant.
                    "," if depth == 0 && !is_item => break,
                    _ => {}
                }
            }
        }
        left
    }
}

/// Reads a `use` tree from `tokens[at]` on, below `prefix`; returns the index of its end, and adds the imported names and paths.
fn use_tree(tokens: &[Token<'_>], mut at: usize, prefix: &[String], leaves: &mut Vec<(String, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.word {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.word != "}") {
                    at = use_tree(tokens, at, &path, leaves);
                    at += usize::from(tokens.get(at).is_some_and(|t| t.word == ","));
                }
                return at + 1;
            }
            // The names of a glob import are unknown.
            "*" => return at + 1,
            "as" => {
                let name = tokens.get(at + 1).map_or("_", |t| t.word);
                leaves.push((name.into(), path));
                return at + 2;
            }
            // `self` in a list is the module itself.
            "self" if !path.is_empty() => {}
            word if is_name(word) => path.push(word.into()),
            _ => break,
        }
        at += 1;
    }
    if let Some(name) = path.last() {
        leaves.push((name.clone(), path));
    }
    at
}

#[derive(Clone, Copy)]
struct Token<'t> {
    word: &'t str,
    offset: usize,
}

/// Splits code into identifiers and numbers, `::`, and single other characters.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let rest = &code[at..];
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(Token { word: &rest[..length], offset: at });
        }
        at += length;
    }
    tokens
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
