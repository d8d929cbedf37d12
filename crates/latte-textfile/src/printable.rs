//! Makes foreign text safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with every character that is invisible, or that a terminal would interpret, escaped as in JSON: control characters
/// (including line breaks), byte-order marks, zero-width spaces, and characters that change the writing direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        match sign {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // All of them have at most four hexadecimal digits. Writing to a string does not fail.
            _ if is_hidden(sign) => drop(write!(shown, "\\u{:04x}", sign as u32)),
            _ => shown.push(sign),
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invisible_characters_are_escaped_and_the_others_stay() {
        for (text, shown) in [
            ("plain, ümläut, 字, \u{1f469}\u{200d}\u{1f680}", "plain, ümläut, 字, \u{1f469}\u{200d}\u{1f680}"),
            ("p\0a\0t\0h", "p\\u0000a\\u0000t\\u0000h"),
            ("\u{1b}[31mred\u{7}", "\\u001b[31mred\\u0007"),
            ("a\r\n\tb\u{85}\u{7f}", "a\\r\\n\\tb\\u0085\\u007f"),
            ("\u{feff}f.png \u{202e}gnp.f", "\\ufefff.png \\u202egnp.f"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    proptest! {
        #[test]
        fn no_character_that_a_terminal_interprets_is_left(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(printable(&shown), shown.as_ref());
        }
    }
}
