//! File names from class names and prompts.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// Maximum length of a name in bytes. File systems allow 255; seed, number and extension are added.
const MAX_BYTES: usize = 180;
/// Maximum number of characters of a prompt in its file name.
const MAX_PROMPT_CHARS: usize = 60;

/// A class name as part of a file name: everything but letters, digits, `-` and `_` becomes `_`. Different class names may give the
/// same file name; [`distinct_names`] avoids that.
pub fn class_file_name(class: &str) -> String {
    let is_kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let name: String = class.chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    if name.len() <= MAX_BYTES { name } else { with_hash(cut(&name, MAX_BYTES - 9), class) }
}

/// A prompt as part of a file name: its words, plus a part of its hash if the words do not identify the prompt.
pub fn prompt_file_name(prompt: &str) -> String {
    let words: Vec<&str> = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("_").to_lowercase().chars().take(MAX_PROMPT_CHARS).collect();
    let name = cut(&name, MAX_BYTES);
    if name.replace('_', " ") == prompt { name.to_string() } else { with_hash(name, prompt) }
}

/// File names for classes, in their order; all differ, even on file systems that ignore case. A class name that is a valid file
/// name is kept; if another class has the name, `-2`, `-3`, … is added.
pub fn distinct_names(classes: &[String]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = vec![String::new(); classes.len()];
    let (as_they_are, changed): (Vec<usize>, Vec<usize>) =
        (0..classes.len()).partition(|&index| class_file_name(&classes[index]) == classes[index]);
    for index in as_they_are.into_iter().chain(changed) {
        let wish = class_file_name(&classes[index]);
        // One of as many numbers as there are classes is always free.
        let mut numbers = 1..=classes.len();
        names[index] = numbers.find_map(|n| Some(numbered(&wish, n)).filter(|name| taken.insert(folded(name)))).unwrap_or(wish);
    }
    names
}

/// The `n`-th variant of `name`: `name`, `name-2`, `name-3`, ….
pub(super) fn numbered(name: &str, n: usize) -> String {
    if n <= 1 { name.to_string() } else { format!("{name}-{n}") }
}

/// A key that is equal for names that a case-insensitive file system does not distinguish.
pub(super) fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

fn cut(name: &str, max_bytes: usize) -> &str {
    &name[..name.floor_char_boundary(max_bytes)]
}

fn with_hash(name: &str, of: &str) -> String {
    use std::fmt::Write;
    let mut name = name.to_string();
    if !name.is_empty() {
        name.push('_');
    }
    for byte in &Sha256::digest(of.as_bytes())[..4] {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_become_file_names() {
        assert_eq!(class_file_name("right_red_square"), "right_red_square");
        assert_eq!(class_file_name("a/b ü..c"), "a_b_ü__c");
        assert!(class_file_name(&"ü".repeat(500)).len() <= MAX_BYTES);
    }

    #[test]
    fn a_class_that_is_a_file_name_keeps_it() {
        let names = |classes: &[&str]| distinct_names(&classes.iter().map(|class| (*class).to_string()).collect::<Vec<_>>());
        assert_eq!(names(&["a cat", "a_cat"]), ["a_cat-2", "a_cat"]);
        assert_eq!(names(&["a cat", "a_cat-2", "a_cat"]), ["a_cat-3", "a_cat-2", "a_cat"]);
        assert_eq!(names(&["Cat", "cat", "dog"]), ["Cat", "cat-2", "dog"]);
        assert_eq!(names(&["?", "!", ""]), ["_", "_-2", ""]);
    }

    #[test]
    fn different_prompts_have_different_file_names() {
        assert_eq!(prompt_file_name("a cat"), "a_cat");
        assert_eq!(prompt_file_name("a cat!"), format!("a_cat_{}", &with_hash("", "a cat!")));
        let names = ["a-cat", "a/cat", "A cat", "a  cat", "a_cat", "a cat "].map(prompt_file_name);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("a_cat_")), "{names:?}");
        let long = "long ".repeat(100);
        assert_ne!(prompt_file_name(&long), prompt_file_name(&format!("{long}er")));
        assert!(prompt_file_name(&long).len() < 90);
        assert_eq!(prompt_file_name("???").len(), 8);
        assert!(prompt_file_name(&"𠀀".repeat(60)).len() <= MAX_BYTES + 9);
    }

    /// Names that collide easily: few characters, some of which become the same in a file name.
    fn nasty() -> impl Strategy<Value = String> {
        let known = [
            "con",
            "CON",
            "nul",
            "aux.mp4",
            "..",
            ".",
            "/",
            "\\",
            "",
            " ",
            "a_cat",
            "a cat",
            "ß",
            "SS",
            "ſ",
            "K",
            "contact_sheet",
        ];
        prop_oneof![
            prop::sample::select(known.to_vec()).prop_map(String::from),
            "[aA _/.-]{0,4}",
            "[a ]{0,2}-[0-9]",
            "\\PC{0,6}",
            "[é一\u{e9}e\u{301}]{0,3}",
            "[x!]{250,300}",
        ]
    }

    proptest! {
        #[test]
        fn any_classes_have_distinct_usable_names(classes in prop::collection::vec(nasty(), 0..40)) {
            let names = distinct_names(&classes);
            let folded: BTreeSet<String> = names.iter().map(|name| folded(name)).collect();
            prop_assert_eq!(folded.len(), classes.len());
            for name in &names {
                prop_assert!(name.len() <= MAX_BYTES + 4 && !name.contains(['/', '\\', '.', ':', '\0']), "{}", name);
            }
        }

        #[test]
        fn different_prompts_have_different_names(a in nasty(), b in nasty()) {
            let (name_a, name_b) = (prompt_file_name(&a), prompt_file_name(&b));
            prop_assert_eq!(folded(&name_a) == folded(&name_b), a == b, "{} {}", name_a, name_b);
            prop_assert!(name_a.len() <= MAX_BYTES + 9 && !name_a.contains(['/', '\\', '.', ' ', ':']), "{}", name_a);
        }
    }
}
