//! Repairs text that other programs damaged: wrong decoding (mojibake), curly quotes, invisible characters.
//!
//! The reference calls the Python library ftfy. This module implements the part of it that captions need: see [`repair`].

use tokenizers::NormalizedString;

/// The characters of bytes 0x80 to 0x9f in Windows-1252; 0 for undefined bytes.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0, 0, 0x2018,
    0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

/// Repairs the text:
///
/// - UTF-8 sequences that were decoded as Windows-1252 are decoded as UTF-8 (`â€œ` → `“`), if the whole sequence is there;
/// - control characters U+0080 to U+009F are read as Windows-1252, other control characters are removed, and all line ends become
/// `\n`;
/// - terminal escapes (`ESC [ … m`), byte-order marks and invisible formatting characters are removed;
/// - ligatures (`ﬁ`), full-width and half-width characters become ordinary ones;
/// - curly quotes become straight, and the whole text is in Unicode's composed normal form (NFC).
///
/// It differs from ftfy: ftfy estimates how likely the whole text is to be wrong, tries many encodings (Windows-1251, MacRoman, …),
/// and repairs several layers of wrong decoding. This function knows only one sequence that lost a non-breaking space.
pub(super) fn repair(text: &str) -> String {
    let text = read_rightly(&without_escapes(text));
    let mut repaired = String::with_capacity(text.len());
    let mut previous = None;
    for c in text.chars().map(second_block) {
        match c {
            '\n' if previous == Some('\r') => {}
            '\r' | '\u{2028}' | '\u{2029}' => repaired.push('\n'),
            '\0'..='\x08'
            | '\x0b'
            | '\x0e'..='\x1f'
            | '\x7f'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}' => {}
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => repaired.push('\''),
            '\u{201c}'..='\u{201f}' => repaired.push('"'),
            // Ligatures, the Dutch ij, the Croatian digraphs; full width and half width; the full-width space.
            '\u{fb00}'..='\u{fb06}' | '\u{132}' | '\u{133}' | '\u{149}' | '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}' => {
                repaired.push_str(NormalizedString::from(c.to_string()).nfkc().get());
            }
            '\u{ff01}'..='\u{ffef}' | '\u{3000}' => repaired.push_str(NormalizedString::from(c.to_string()).nfkc().get()),
            _ => repaired.push(c),
        }
        previous = Some(c);
    }
    NormalizedString::from(repaired).nfc().get().to_string()
}

/// A control character U+0080 to U+009F as in Windows-1252; unchanged if it is undefined there.
pub(super) fn second_block(c: char) -> char {
    let of_windows = WINDOWS_1252.get((c as usize).wrapping_sub(0x80)).copied().unwrap_or(0);
    if of_windows == 0 { c } else { char::from_u32(u32::from(of_windows)).unwrap_or(c) }
}

/// The byte that Windows-1252 (or Latin-1, where Windows-1252 is undefined) decodes as `c`.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xff => Some(code as u8),
        code => WINDOWS_1252.iter().position(|&of_windows| u32::from(of_windows) == code).map(|index| 0x80 + index as u8),
    }
}

/// Replaces characters that together are the UTF-8 bytes of one character by that character.
fn read_rightly(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut right = String::with_capacity(text.len());
    let mut rest = characters.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        // The bytes of a dagger, which itself often results from wrong decoding, end with a non-breaking space, which programs
        // replace by an ordinary space.
        if let ['â', '€', ' ', after @ ..] = rest {
            right.push('†');
            rest = after;
            continue;
        }
        // Only sequences that are hardly ever intended: adjacent letters, and most letters beside a symbol, usually are.
        let sign_follows = after.first().is_some_and(|c| !c.is_alphabetic());
        let length = match first {
            'Â' | 'Ã' => 2,
            'â' | 'ã' | 'ï' if sign_follows => 3,
            'ð' => 4,
            _ => 1,
        };
        let bytes: Option<Vec<u8>> = rest.get(..length).and_then(|part| part.iter().map(|&c| byte_of(c)).collect());
        match bytes.as_deref().map(std::str::from_utf8) {
            Some(Ok(character)) if length > 1 => {
                right.push_str(character);
                rest = &rest[length..];
            }
            _ => {
                right.push(first);
                rest = after;
            }
        }
    }
    right
}

/// Removes `ESC [ digits and semicolons letter`, the colour codes of terminals.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut kept = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match after.chars().next() {
            Some(c) if c.is_ascii_alphabetic() => kept.push_str(&after[1..]),
            _ => {
                kept.push_str("\x1b[");
                kept.push_str(part);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn damage_is_mended_as_ftfy_does() {
        // Expected: `ftfy.fix_text` of ftfy 6.3.1.
        for (text, expected) in [
            ("plain text stays", "plain text stays"),
            ("it’s “fine” ‛so‚", "it's \"fine\" 'so'"),
            ("â€œquotedâ€\u{9d} and donâ€™t", "\"quoted\" and don't"),
            ("donâ€ t", "don†t"),
            ("sch\u{c3}\u{b6}n", "schön"),
            ("ﬁne ﬂow ĳs", "fine flow ijs"),
            ("ＦＵＬＬ　ｗｉｄｔｈ", "FULL width"),
            ("a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            ("a\u{0}b\u{feff}c\u{7f}", "abc"),
            ("cafe\u{301}", "café"),
            ("\x1b[36;44mcolour\x1b[0m", "colour"),
            ("\u{93}windows\u{94}", "\"windows\""),
            ("ö ñ é à votre santé", "ö ñ é à votre santé"),
        ] {
            assert_eq!(repair(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn ascii_without_controls_stays(text in "[ -~\n\t]*") {
            prop_assert_eq!(repair(&text), text);
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = repair(&text);
        }
    }
}
