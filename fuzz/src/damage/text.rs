//! Changes of texts: replaced words, moved lines, unclosed brackets.

use std::ops::Range;

use super::Chance;

/// Difficult values for readers of numbers, texts and lists.
const ANYWHERE: &[&str] = &[
    "0",
    "-1",
    "1",
    "2",
    "1e308",
    "-1e999",
    "1e-320",
    "0.1",
    "NaN",
    "nan",
    "Infinity",
    "-inf",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967296",
    "65536",
    "99999999999999999999999999",
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "]]]]",
    "{\"",
    "\"",
    "'",
    ",",
    ":",
    "=",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{10ffff}",
    "\\ud800",
    "\\",
    "/",
    "..",
    "#",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "<<: ",
    "---\n",
    "\"\"\"",
];

/// Makes one change to a text; bytes that are not text stay unchanged.
pub(crate) fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], chance: &mut Chance) {
    let known = |chance: &mut Chance| {
        let list = if words.is_empty() || chance.one_in(2) { ANYWHERE } else { words };
        chance.one_of(list).as_bytes().to_vec()
    };
    let range = word(bytes, chance);
    match chance.below(8) {
        0 | 1 => _ = bytes.splice(range, known(chance)),
        2 => _ = bytes.splice(range.start..range.start, known(chance)),
        3 => {
            let other = &others[chance.below(others.len())];
            let theirs = word(other, chance);
            bytes.splice(range, other[theirs].iter().copied());
        }
        4 => _ = bytes.drain(range),
        5 => _ = bytes.drain(line(bytes, chance)),
        6 => {
            let piece = bytes[line(bytes, chance)].to_vec();
            let at = line(bytes, chance).start;
            bytes.splice(at..at, piece);
        }
        _ => {
            let bracket = chance.one_of(&["[", "{\"a\":", "(", "\"", "- ", " ", "a.", "9"]);
            let deep = bracket.repeat(1 << chance.below(14));
            bytes.splice(range.start..range.start, deep.into_bytes());
        }
    }
}

/// The word at a random offset, delimited by spaces, brackets, quotes and commas.
fn word(bytes: &[u8], chance: &mut Chance) -> Range<usize> {
    let at = chance.below(bytes.len());
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+/".contains(byte) || *byte >= 0x80;
    let (before, after) = bytes.split_at(at.min(bytes.len()));
    let start = at - before.iter().rev().take_while(|byte| is_word(byte)).count();
    start..at + after.iter().take_while(|byte| is_word(byte)).count()
}

/// The line at a random offset, including its line break.
fn line(bytes: &[u8], chance: &mut Chance) -> Range<usize> {
    let (before, after) = bytes.split_at(chance.below(bytes.len()));
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    start..after.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| before.len() + at + 1)
}
